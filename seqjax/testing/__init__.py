"""The laws as a library: what `seqjax laws` and the tests of seqjax hold mixers and models against.

In a test of your own:

    import pytest
    from seqjax.testing import laws

    @pytest.mark.parametrize("law", laws.of(Mine(width=8)), ids=str)
    def test_mine(law):
        law()
"""
