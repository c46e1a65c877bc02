// Package certs parses certificates and decides which of them HAProxy gets.
//
// [Parse] reads a certificate with its chain and key. [Choose] makes the list for HAProxy from the
// files of a directory. Each [File] contains either a [Pair] or an error, so a faulty file does not
// affect the other files. If a file is faulty, its last good certificate stays in the list. Choose
// reads this certificate from the copy of the file that HAProxy uses.
//
// # When a certificate leaves the list
//
// A renewed certificate replaces the certificate that the same file contained before. But if the
// old certificate covers a declared host that no other certificate covers, it stays in the list.
// The same rule applies if somebody removes a file. So nobody can take a host out of service by
// deleting or overwriting a file. To remove such a certificate, remove the routes of the host, or
// add another certificate that covers the host.
//
// # Validity
//
// If a certificate has expired or is not valid yet, it stays in the list: a warning that the user
// can ignore is better than no connection. If another certificate covers the same name and is
// valid, HAProxy prefers the valid certificate.
package certs
