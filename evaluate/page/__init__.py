"""The report as one HTML file, computed from stored records."""
