"""The Gradio app: one file a tab, and no mathematics."""
