"""What executes a net to answer: sessions and the Classifier."""
