package runtimeapi

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MaxCertificate is the largest size in bytes of a certificate with its chain and key, together with
// the command that sends it. HAProxy before 3.4 reads a command with its payload into one buffer
// (tune.bufsize), which has at least 16 KiB.
const MaxCertificate = 16_000

// ErrCertificateTooLarge means that a command with a certificate would be larger than
// [MaxCertificate].
var ErrCertificateTooLarge = errors.New("runtimeapi: the certificate is too large for a command")

// SetCertificate replaces a certificate, its chain and its key (pem) in one step. file is the name
// of the certificate in HAProxy, one of the results of [Socket.CertificateFiles]; HAProxy does not
// read or write this file. If other certificates with the same kind of key cover a name, HAProxy
// prefers them to the new certificate until the next reload.
//
// After an error, HAProxy uses either the old certificate or the new one. The error contains
// nothing of pem.
func (s Socket) SetCertificate(ctx context.Context, file string, pem []byte) error {
	if err := checkWord("the file of a certificate", file); err != nil {
		return err
	}
	command, err := s.certificateCommand(file, pem)
	if err != nil {
		return err
	}
	if err := s.setCertificate(ctx, file, command, pem); err != nil {
		s.abortCertificate(ctx, file)
		return err
	}
	return nil
}

// AddCertificate adds a new certificate to HAProxy, and then to the end of a crt-list. list is one
// of the results of [Socket.CertificateLists]. file is the name of the certificate, and must be new
// to HAProxy. pem is as for [Socket.SetCertificate].
//
// After an error, HAProxy may have the new certificate. The error contains nothing of pem.
func (s Socket) AddCertificate(ctx context.Context, list, file string, pem []byte) error {
	if err := checkWord("the path of a crt-list", list); err != nil {
		return err
	}
	if err := checkWord("the file of a certificate", file); err != nil {
		return err
	}
	command, err := s.certificateCommand(file, pem)
	if err != nil {
		return err
	}
	if err := s.change(ctx, "new ssl cert "+file, file, false, "New empty certificate store"); err != nil {
		return err
	}
	err = s.setCertificate(ctx, file, command, pem)
	if err == nil {
		err = s.change(ctx, "add ssl crt-list "+list+" "+file, file, false, "Success!")
	}
	if err != nil {
		s.abortCertificate(ctx, file)
		_, _ = s.Do(context.WithoutCancel(ctx), "del ssl cert "+file) // HAProxy refuses this if the crt-list has the certificate
	}
	return err
}

// DeleteCertificate removes a certificate (file, one of the results of [Socket.CertificateFiles])
// from a crt-list (list), and then deletes it from HAProxy. Open connections stay. HAProxy refuses
// to delete a certificate that another crt-list contains too. After an error, HAProxy may still
// have the certificate.
func (s Socket) DeleteCertificate(ctx context.Context, list, file string) error {
	if err := checkWord("the path of a crt-list", list); err != nil {
		return err
	}
	if err := checkWord("the file of a certificate", file); err != nil {
		return err
	}
	if err := s.change(ctx, "del ssl crt-list "+list+" "+file, file, false, "deleted in crtlist"); err != nil {
		return err
	}
	return s.change(ctx, "del ssl cert "+file, file, false, "deleted!")
}

// certificateCommand returns the command that sends a certificate.
func (s Socket) certificateCommand(file string, pem []byte) (string, error) {
	var b strings.Builder
	if s.Worker != "" {
		b.WriteString(s.Worker + " ")
	}
	b.WriteString("set ssl cert " + file + " <<\n")
	for line := range bytes.Lines(pem) {
		// Leave out empty lines: an empty line would end the payload, and HAProxy would read the
		// rest as commands.
		if line = bytes.TrimSpace(line); len(line) > 0 {
			b.Write(line)
			b.WriteByte('\n')
		}
	}
	if b.Len() >= MaxCertificate {
		return "", fmt.Errorf("%w: %s has %d bytes", ErrCertificateTooLarge, file, b.Len())
	}
	return b.String(), nil // send adds a second line end, which ends the payload
}

// setCertificate sends the command, which begins a transaction, and commits the transaction.
func (s Socket) setCertificate(ctx context.Context, file, command string, pem []byte) error {
	answer, err := s.send(ctx, command)
	if err != nil {
		return err
	}
	if err := judge("set ssl cert "+file+" <<", file, withoutSecrets(answer, pem), false, []string{"Transaction created", "Transaction updated"}); err != nil {
		return err
	}
	return s.change(ctx, "commit ssl cert "+file, file, false, "Success!")
}

// abortCertificate ends a transaction, even if ctx has ended. HAProxy allows only one transaction
// at a time.
func (s Socket) abortCertificate(ctx context.Context, file string) {
	_, _ = s.Do(context.WithoutCancel(ctx), "abort ssl cert "+file)
}

// withoutSecrets returns an answer of HAProxy without the lines that contain a line of pem, or a
// part of such a line. HAProxy repeats a command that it does not know, so an answer may contain a
// part of the private key.
func withoutSecrets(answer string, pem []byte) string {
	var b strings.Builder
lines:
	for line := range strings.Lines(answer) {
		for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return r <= ' ' || r == '\'' || r == '"' || r == ':' }) {
			const short = 12 // a shorter part tells nothing
			if len(word) >= short && bytes.Contains(pem, []byte(word[:short])) {
				continue lines
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// CertificateLists returns the paths of the crt-lists that HAProxy uses.
func (s Socket) CertificateLists(ctx context.Context) ([]string, error) {
	answer, err := s.Do(ctx, "show ssl crt-list")
	if err != nil {
		return nil, err
	}
	return strings.Fields(answer), nil
}

// CertificateFiles returns the names of the certificates in a crt-list, in their order. The argument
// "list" is one of the results of [Socket.CertificateLists].
func (s Socket) CertificateFiles(ctx context.Context, list string) ([]string, error) {
	if err := checkWord("the path of a crt-list", list); err != nil {
		return nil, err
	}
	command := "show ssl crt-list -n " + list
	answer, err := s.Do(ctx, command)
	if err != nil {
		return nil, err
	}
	files, ok := parseCertificateList(answer)
	if !ok {
		return nil, &AnswerError{Command: command, Target: list, Answer: strings.TrimSpace(answer)}
	}
	return files, nil
}

// parseCertificateList parses the answer to "show ssl crt-list -n LIST". After a line with the path
// of the list, each line has the name of a certificate, ':' and the number of its line:
//
//	# /etc/haproxy/x.list
//	/etc/haproxy/certs/a.pem:1
func parseCertificateList(answer string) (files []string, ok bool) {
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		switch i := strings.LastIndexByte(line, ':'); {
		case line == "":
		case line[0] == '#':
			ok = true
		case !ok || i <= 0:
			return nil, false
		default:
			files = append(files, line[:i])
		}
	}
	return files, ok
}

// CertificateSHA1 returns the SHA-1 fingerprint of a certificate that HAProxy uses. The argument
// "file" is the name of the certificate in HAProxy.
func (s Socket) CertificateSHA1(ctx context.Context, file string) ([20]byte, error) {
	if err := checkWord("the file of a certificate", file); err != nil {
		return [20]byte{}, err
	}
	command := "show ssl cert " + file
	answer, err := s.Do(ctx, command)
	if err != nil {
		return [20]byte{}, err
	}
	sum, ok := parseCertificateSHA1(answer)
	if !ok {
		return [20]byte{}, &AnswerError{Command: command, Target: file, Answer: strings.TrimSpace(answer)}
	}
	return sum, nil
}

// parseCertificateSHA1 finds the fingerprint in an answer to "show ssl cert FILE", in a line
//
//	SHA1 FingerPrint: 5BF55C435C143C4E990168058E632FB32DB4575D
func parseCertificateSHA1(answer string) (sum [20]byte, ok bool) {
	for line := range strings.Lines(answer) {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "SHA1 FingerPrint: "); found && len(text) == 2*len(sum) {
			_, err := hex.Decode(sum[:], []byte(text))
			return sum, err == nil
		}
	}
	return sum, false
}

// PendingCertificate returns the name of the certificate that a transaction has set, but not
// committed. It returns "" if no transaction is open.
func (s Socket) PendingCertificate(ctx context.Context) (string, error) {
	answer, err := s.Do(ctx, "show ssl cert")
	if err != nil {
		return "", err
	}
	return parsePendingCertificate(answer), nil
}

// parsePendingCertificate finds the name of a certificate with an open transaction in an answer to
// "show ssl cert":
//
//	# transaction
//	*/etc/haproxy/certs/a.pem
//	# filename
//	/etc/haproxy/certs/a.pem
func parsePendingCertificate(answer string) string {
	for line := range strings.Lines(answer) {
		if file, ok := strings.CutPrefix(strings.TrimSpace(line), "*"); ok {
			return file
		}
	}
	return ""
}

// AddMapEntries adds entries to a map, or changes their values. All other entries of the map stay.
// See [Socket.SetMap] for the rules for path, keys and values.
func (s Socket) AddMapEntries(ctx context.Context, path string, entries []MapEntry) error {
	for _, e := range entries {
		if err := checkEntry(path, e.Key, e.Value); err != nil {
			return err
		}
	}
	now, err := s.Map(ctx, path)
	if err != nil {
		return err
	}
	present := byKey(now)
	var missing []MapEntry
	for _, e := range entries {
		value, ok := present[e.Key]
		switch {
		case !ok:
			missing = append(missing, e)
			present[e.Key] = e.Value
		case value != e.Value:
			if err := s.SetMap(ctx, path, e.Key, e.Value); err != nil {
				return err
			}
		}
	}
	return s.addEntries(ctx, "map "+path, path, missing)
}
