"""Pictures, sound, video and faces: reading them safely and writing them exactly."""
