"""EarthGPT over HTTP: OpenAI's chat API, the tasks, and jobs for large scenes (extra "serve")."""
