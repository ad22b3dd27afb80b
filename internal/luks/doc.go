// Package luks reads and writes LUKS version 1 containers, and encrypts devices
// as their payload is: AES in XTS mode by sectors of 512 bytes that are numbered
// from the payload's first ("aes-xts-plain64"). It follows the LUKS On-Disk
// Format Specification 1.2.3; qemu-img and cryptsetup read what it writes, and it
// reads what they write.
package luks
