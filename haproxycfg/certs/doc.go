// Package certs parses certificates and decides which of them HAProxy uses.
//
// [Parse] reads a certificate with its chain and key. [Choose] makes the list for HAProxy from the
// files of a directory. A faulty [File] does not affect the other files, and its last good
// certificate stays in the list.
//
// # When a certificate leaves the list
//
// A renewed certificate replaces the earlier certificate of the same file. But a certificate stays
// in the list while it is the only one that covers a declared host, even if somebody overwrites or
// removes its file. To remove such a certificate, remove the routes of the host, or add another
// certificate that covers the host.
//
// # Validity
//
// A certificate that has expired or is not valid yet stays in the list: a warning that the user can
// ignore is better than no connection. HAProxy prefers a valid certificate for the same name.
package certs
