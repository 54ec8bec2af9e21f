"""Following faces through a video: one track holds a face's place, look and age."""
