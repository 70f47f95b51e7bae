"""The entry point of a Hugging Face Space, and ``python app.py``; see wsdemo/ui/app.py."""

from wsdemo.ui.app import build, launch

demo = build()

if __name__ == "__main__":
    launch(demo)
