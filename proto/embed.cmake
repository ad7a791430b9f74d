# cmake -DINPUT=file -DOUTPUT=file.c -DNAME=symbol -P embed.cmake: bytes of a file as a C array.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
file(WRITE ${OUTPUT} "#include \"proto/descriptors.h\"\n\nconst unsigned char ${NAME}[] = {\n${hex}\n};\nconst size_t ${NAME}_size = sizeof ${NAME};\n")
