"""The archiver: events and streams into the journal, the journal into files, and questions to both."""
