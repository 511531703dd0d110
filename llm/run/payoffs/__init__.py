"""What the responses of a Step earn where several objectives are combined."""
