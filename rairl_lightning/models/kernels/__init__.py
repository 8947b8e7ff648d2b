"""Faster ways to compute what torch and transformers compute: same results, to rounding."""
