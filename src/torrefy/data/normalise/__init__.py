"""Statistics of training data, and what they do to pictures: mean, deviation, whitening."""
