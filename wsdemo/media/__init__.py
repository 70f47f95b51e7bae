"""Pictures and meshes in and out."""
