"""Judging policies and rewards on fixed traces: reranking, localisation, summaries."""
