"""What `experiments.music_generation` is made of."""
