"""Is seqjax as fast as the libraries it competes with? One file per question, with its opponents."""
