"""`fmrilm web`: a local page to ask trained runs about scans."""
