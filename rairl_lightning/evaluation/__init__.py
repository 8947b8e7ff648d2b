"""Judging policies and rewards on fixed traces: reranking, localisation, leaks, summaries."""
