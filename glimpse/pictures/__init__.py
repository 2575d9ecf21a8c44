"""Pictures for people to read: a canvas with text and smooth shapes, and rankings drawn on it."""
