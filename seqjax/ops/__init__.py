"""Pure numerics on arrays: no flax, no state but what goes in and comes out."""
