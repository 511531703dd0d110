"""The stages of a Step: its responses are sampled and judged, and an adapter is trained on them."""
