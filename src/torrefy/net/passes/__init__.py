"""Graph passes: each makes a net smaller and leaves the values of its outputs as they are."""
