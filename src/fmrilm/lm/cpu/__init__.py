"""Forward passes that keep less memory on CPUs."""
