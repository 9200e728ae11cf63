"""`fmrilm explain`: which regions and networks an answer rests on."""
