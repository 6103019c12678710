"""Constants of image preprocessing, shared by training and inference."""

# Radford et al. (2021), openai/CLIP clip.py; every CLIP-like tower uses them, and so do our own.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
