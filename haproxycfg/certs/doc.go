// Package certs parses certificates and decides which of them HAProxy gets.
//
// [Parse] reads a certificate with its chain and key. [Choose] turns the files of a directory into
// the list for HAProxy. Each [File] has either a [Pair] or an error, so a faulty file does not
// affect the others. If a file is faulty, its last good certificate stays in the list. Choose takes
// this certificate from the copy that HAProxy reads.
//
// # When a certificate leaves the list
//
// A renewed certificate replaces the certificate that was read from the same file before. The old
// certificate stays in the list if it covers a declared host that no other certificate covers. The
// same rule holds if a file is removed. So nobody can take a host out of service by deleting or
// overwriting a file. To remove such a certificate, remove the routes of the host, or add another
// certificate that covers it.
//
// # Validity
//
// A certificate that has expired, or that is not valid yet, is in the list: a warning that the
// client can ignore is better than no connection. If another certificate covers the same name and
// is valid, HAProxy prefers the valid certificate.
package certs
