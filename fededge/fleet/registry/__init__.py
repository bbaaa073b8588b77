"""The gateway's registry: who may take part, what they were asked, and what came of it, in one SQL database."""
