package deploy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// certificateChange is a change of one certificate list.
//
// HAProxy names a certificate after the file from which it has read the certificate. The name of a
// file contains a hash, so the file of a renewed certificate has another name. But HAProxy uses the
// old name until the next reload. The same is true for the certificate list and the map of covered
// names. So the method "send" first asks HAProxy which names it uses.
type certificateChange struct {
	dir  string // the absolute path of the directory
	list string // the name of the CertificateList
	// The field "before" contains the certificates that HAProxy has, in the order of the old list.
	before []listedCertificate
	// renewed contains the new certificates that replace old ones. A key is the name of the file of
	// the old certificate.
	renewed map[string]*haproxycfg.Certificate
	added   []*haproxycfg.Certificate
	gone    map[string]bool       // the files of the old certificates that HAProxy must delete
	covered []runtimeapi.MapEntry // all entries of the new map of the names that the certificates cover
}

// listedCertificate is a certificate of the old certificate list.
type listedCertificate struct {
	file  string   // the name of the file without its directory
	sha1  [20]byte // zero if the certificate covers no name, or if an earlier file contains it too
	names []string
}

var listFile = regexp.MustCompile(`\bcerts-in-use/([^/\s,()'"]+)-[0-9a-f]{16}\.list\b`)

// certificateLists returns the names of the files of the certificate lists in the text of a
// haproxy.cfg. The keys are the names of the lists.
func certificateLists(config []byte) map[string]string {
	lists := map[string]string{}
	for line := range bytes.Lines(config) {
		if !bytes.Contains(line, []byte(certsDir+"/")) {
			continue
		}
		for _, m := range listFile.FindAllSubmatch(line, -1) {
			lists[string(m[1])] = string(m[0])
		}
	}
	return lists
}

// withoutListHashes removes the hashes from the file names of certificate lists, and of their maps,
// in a line of haproxy.cfg.
func withoutListHashes(line string, lists map[string]string) string {
	return namedFile.ReplaceAllStringFunc(line, func(file string) string {
		for _, pattern := range []*regexp.Regexp{listFileName, mapFileName} {
			if m := pattern.FindStringSubmatch(path.Base(file)); m != nil && lists[m[1]] != "" {
				return m[1]
			}
		}
		return file
	})
}

// certificateChanges returns the changes from the certificate lists in the directory to those of
// the new configuration t. The argument "good" is the text of the haproxy.cfg that HAProxy has
// certainly loaded, and disk is the text of the haproxy.cfg in the directory. If HAProxy cannot
// make a change at run time, reload contains the reason.
func (d *Dir) certificateChanges(good, disk []byte, t target) (changes []certificateChange, reload string, err error) {
	d.changes.keepsCertificates = false
	if t.source == nil {
		return nil, "", nil
	}
	loaded, written, wanted := certificateLists(good), certificateLists(disk), certificateLists(t.text())
	for i := range t.source.CertificateLists {
		list := &t.source.CertificateLists[i]
		before, after := written[list.Name], wanted[list.Name]
		switch {
		case loaded[list.Name] != before:
			return nil, "certificates have changed, and an earlier change was interrupted", nil
		case before == after || before == "" || after == "": // if there was no list, another line differs too
			continue
		}
		change, reason, err := d.certificateChange(list, before, disk)
		if reason == "" && err == nil {
			reason = change.cannotSend(t.source, list)
		}
		if reason != "" || err != nil {
			return nil, reason, err
		}
		changes = append(changes, change)
	}
	d.changes.keepsCertificates = true
	return changes, "", nil
}

// certificateChange returns the change from the old certificate list, in the file "before", to the
// new one. disk is the text of the old haproxy.cfg. If HAProxy needs a reload, the result "reload"
// is the reason.
//
// A new certificate with a key of the same kind replaces an old certificate that is not in the new
// list. The new certificate is the first of these that exists:
//
//   - a certificate with the same names as the old one,
//   - a certificate with all names of the old one, and others,
//   - a certificate with at least one name of the old one.
//
// If none of them exists, HAProxy must delete the old certificate.
func (d *Dir) certificateChange(list *haproxycfg.CertificateList, before string, disk []byte) (c certificateChange, reload string, err error) {
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return c, "", err
	}
	c = certificateChange{dir: filepath.ToSlash(dir), list: list.Name, renewed: map[string]*haproxycfg.Certificate{}, gone: map[string]bool{}}
	if c.before, err = d.listedCertificates(list.Name, before, disk); err != nil {
		return c, "", err
	}
	var fresh []*haproxycfg.Certificate
	wanted, covered := map[string]bool{}, map[string]bool{}
	for i := range list.Certificates {
		cert := &list.Certificates[i]
		file := path.Base(cert.FileName())
		if wanted[file] {
			continue
		}
		wanted[file] = true
		if !slices.ContainsFunc(c.before, func(l listedCertificate) bool { return l.file == file }) {
			fresh = append(fresh, cert)
		}
		for _, name := range cert.Names {
			if key := coveredKey(cert.SHA1, name); !covered[key] {
				covered[key] = true
				c.covered = append(c.covered, runtimeapi.MapEntry{Key: key, Value: file})
			}
		}
	}
	var gone []listedCertificate
	for _, l := range c.before {
		if wanted[l.file] {
			continue
		}
		if l.sha1 == [20]byte{} {
			return c, "a certificate is gone, and its fingerprint is not known", nil
		}
		gone = append(gone, l)
	}
	for _, fits := range []func(old, now []string) bool{slices.Equal[[]string], containsAll, overlap} {
		gone = slices.DeleteFunc(gone, func(old listedCertificate) bool {
			kind := d.keyKind(old.file)
			i := slices.IndexFunc(fresh, func(now *haproxycfg.Certificate) bool {
				return fits(slices.Sorted(slices.Values(old.names)), slices.Sorted(slices.Values(now.Names))) && keyKind(now.PEM) == kind
			})
			if i < 0 {
				return false
			}
			c.renewed[old.file] = fresh[i]
			fresh = slices.Delete(fresh, i, i+1)
			return true
		})
	}
	for _, old := range gone {
		c.gone[old.file] = true
	}
	c.added = fresh
	return c, "", nil
}

func containsAll(old, now []string) bool {
	return len(old) > 0 && !slices.ContainsFunc(old, func(name string) bool { return !slices.Contains(now, name) })
}

func overlap(old, now []string) bool {
	return slices.ContainsFunc(old, func(name string) bool { return slices.Contains(now, name) })
}

// listedCertificates reads the certificates of the old certificate list: from the file of this
// list, and from the map of the names that the certificates cover.
func (d *Dir) listedCertificates(list, file string, disk []byte) ([]listedCertificate, error) {
	text, err := readOptional(d.file(file))
	if err != nil {
		return nil, err
	}
	var all []listedCertificate
	at := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name := path.Base(strings.TrimSpace(line)) // the list of a fragment contains whole paths
		at[name] = len(all)
		all = append(all, listedCertificate{file: name})
	}
	for _, name := range namedFiles(disk) {
		m := mapFileName.FindStringSubmatch(path.Base(name))
		if m == nil || m[1] != list {
			continue
		}
		data, err := readOptional(d.file(name))
		if err != nil {
			return nil, err
		}
		for _, e := range mapEntries(data) {
			i, ok := at[e.Value]
			sum, host, _ := strings.Cut(e.Key, "/")
			if raw, err := hex.DecodeString(sum); ok && err == nil && len(raw) == len(all[i].sha1) {
				all[i].sha1 = [20]byte(raw)
				all[i].names = append(all[i].names, host)
			}
		}
	}
	return all, nil
}

// coveredKey returns the key, FINGERPRINT/NAME, under which the map of the names that certificates
// cover contains a name of a certificate. sha1 is the fingerprint of the certificate.
func coveredKey(sha1 [20]byte, name string) string {
	return strings.ToUpper(hex.EncodeToString(sha1[:])) + "/" + name
}

// keyKind returns the kind of the key, such as RSA or ECDSA, of a certificate in the directory.
func (d *Dir) keyKind(file string) x509.PublicKeyAlgorithm {
	text, err := readOptional(d.file(path.Join(certsDir, file)))
	if err != nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return keyKind(text)
}

// keyKind returns the kind of the key, such as RSA or ECDSA, of the first certificate in a PEM
// text.
func keyKind(text []byte) x509.PublicKeyAlgorithm {
	block, _ := pem.Decode(text)
	if block == nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return cert.PublicKeyAlgorithm
}

// cannotSend returns the reason why HAProxy cannot make the change at run time, or "".
func (c *certificateChange) cannotSend(config *haproxycfg.Config, list *haproxycfg.CertificateList) string {
	for _, cert := range slices.Concat(slices.Collect(maps.Values(c.renewed)), c.added) {
		const command = 300 // the command, and the path of the file
		if len(cert.PEM)+command > runtimeapi.MaxCertificate {
			return fmt.Sprintf("the certificate for %s has %d bytes", strings.Join(cert.Names, ", "), len(cert.PEM))
		}
		if cert.SHA1 == [20]byte{} {
			return "the fingerprint of a certificate is not known"
		}
	}
	certs := map[string]*haproxycfg.Certificate{} // by the name of the file
	var wanted []string
	for i := range list.Certificates {
		cert := &list.Certificates[i]
		file := path.Base(cert.FileName())
		if certs[file] == nil {
			certs[file] = cert
			wanted = append(wanted, file)
		}
	}
	// HAProxy adds the names of a renewed certificate again, after the names of all other
	// certificates. So if another certificate covers a name too, HAProxy prefers that certificate to
	// the renewed one. But for unknown names, HAProxy still uses the first certificate of the list,
	// even if it is renewed.
	var first string
	var order, renewed []string
	for i, l := range c.before {
		file := l.file
		if c.gone[file] {
			if i == 0 && usesFirst(config, list.Name) {
				return "the first certificate is gone, which HAProxy uses for unknown names"
			}
			continue
		}
		if cert := c.renewed[l.file]; cert != nil {
			file = path.Base(cert.FileName())
			renewed = append(renewed, file)
		} else {
			order = append(order, file)
		}
		if i == 0 {
			first = file
		}
	}
	for _, cert := range c.added {
		order = append(order, path.Base(cert.FileName()))
	}
	order = append(order, renewed...)
	if len(wanted) > 0 && usesFirst(config, list.Name) && cmp.Or(first, order[0]) != wanted[0] {
		return "another certificate is the first one, which HAProxy uses for unknown names"
	}
	if name := otherOrder(order, wanted, certs); name != "" {
		return "the order of the certificates for " + name + " has changed"
	}
	return ""
}

// usesFirst reports whether HAProxy uses the first certificate of a list for clients without a
// server name, or with a name that no certificate covers.
func usesFirst(config *haproxycfg.Config, list string) bool {
	for i := range config.Frontends {
		for _, b := range config.Frontends[i].Binds {
			if b.TLS != nil && b.TLS.List == list && (config.Global.Observe || !b.TLS.StrictSNI) {
				return true
			}
		}
	}
	return false
}

// otherOrder compares the orders "got" and "wanted" of certificates. It returns a name for which
// HAProxy may choose another certificate with the order "got" than with "wanted". If there is no
// such name, it returns "". The keys of certs are the names of the files.
//
// HAProxy chooses the first certificate that covers the name with a kind of key that the client
// supports. So the order counts only for two certificates of the same kind that cover the same
// name.
func otherOrder(got, wanted []string, certs map[string]*haproxycfg.Certificate) string {
	byName := func(files []string) map[string][]string {
		all := map[string][]string{}
		for _, file := range files {
			for _, name := range certs[file].Names {
				all[name] = append(all[name], file)
			}
		}
		return all
	}
	sameWithout := func(kind x509.PublicKeyAlgorithm, a, b []string) bool {
		if slices.Equal(a, b) { // most names, so keyKind parses only few certificates
			return true
		}
		ofKind := func(file string) bool { return keyKind(certs[file].PEM) == kind }
		return slices.Equal(slices.DeleteFunc(slices.Clone(a), ofKind), slices.DeleteFunc(slices.Clone(b), ofKind))
	}
	a, b := byName(got), byName(wanted)
	for _, file := range wanted {
		for _, name := range certs[file].Names {
			if !sameWithout(x509.RSA, a[name], b[name]) || !sameWithout(x509.ECDSA, a[name], b[name]) {
				return name
			}
		}
	}
	return ""
}

// count returns the number of certificates that the change replaces, adds or deletes.
func (c *certificateChange) count() int { return len(c.renewed) + len(c.added) + len(c.gone) }

// send changes the certificates of a worker: it adds the names of the new certificates to the map
// of covered names, and then adds, replaces and deletes certificates. In this order, a name that is
// covered before and after the change is covered all the time. The names of old certificates stay
// in the map, because open connections may still use these certificates.
//
// At last send asks HAProxy which certificates it has, and returns an error if they are not the
// wanted certificates.
func (c *certificateChange) send(ctx context.Context, worker runtimeapi.Socket) error {
	at, err := c.locate(ctx, worker)
	if err != nil {
		return fmt.Errorf("deploy: certificates: %w", err)
	}
	if err := worker.AddMapEntries(ctx, at.names, c.covered); err != nil {
		return fmt.Errorf("deploy: certificates: %w", err)
	}
	changed := map[string][20]byte{}
	for _, cert := range c.added {
		file := path.Join(c.dir, cert.FileName())
		if err := worker.AddCertificate(ctx, at.list, file, cert.PEM); err != nil {
			return fmt.Errorf("deploy: certificates: %w", err)
		}
		changed[file] = cert.SHA1
	}
	for _, l := range c.before {
		cert := c.renewed[l.file]
		if cert == nil {
			continue
		}
		if err := worker.SetCertificate(ctx, at.files[l.file], cert.PEM); err != nil {
			return fmt.Errorf("deploy: certificates: %w", err)
		}
		changed[at.files[l.file]] = cert.SHA1
	}
	for _, l := range c.before {
		if !c.gone[l.file] {
			continue
		}
		if err := worker.DeleteCertificate(ctx, at.list, at.files[l.file]); err != nil {
			return fmt.Errorf("deploy: certificates: %w", err)
		}
	}
	return c.compare(ctx, worker, at, changed)
}

// compare returns an error if the certificates of the worker differ from the wanted certificates.
func (c *certificateChange) compare(ctx context.Context, worker runtimeapi.Socket, at located, changed map[string][20]byte) error {
	for file, want := range changed {
		got, err := worker.CertificateSHA1(ctx, file)
		if err != nil {
			return fmt.Errorf("deploy: certificates: %w", err)
		}
		if got != want {
			return fmt.Errorf("deploy: certificates: %s has the fingerprint %x and not %x after the change", file, got, want)
		}
	}
	files, err := worker.CertificateFiles(ctx, at.list)
	if err != nil {
		return fmt.Errorf("deploy: certificates: %w", err)
	}
	if want := len(c.before) + len(c.added) - len(c.gone); len(files) != want {
		return fmt.Errorf("deploy: certificates: HAProxy has %d certificates after the change, and not %d", len(files), want)
	}
	pending, err := worker.PendingCertificate(ctx)
	if err == nil && pending != "" {
		err = fmt.Errorf("another program changes %s", pending)
	}
	if err != nil {
		return fmt.Errorf("deploy: certificates: %w", err)
	}
	return nil
}

// located contains the names that a worker uses for the files of a certificate list. "list" is the
// name of the list itself, and "names" is the name of the map of covered names. "files" contains
// the names of the certificates: a key is the name of the file in the directory, and the value is
// the name that the worker uses.
type located struct {
	list, names string
	files       map[string]string
}

// locate asks a worker for the values of the type "located". It returns an error unless the worker
// has exactly the certificates of the old list.
func (c *certificateChange) locate(ctx context.Context, worker runtimeapi.Socket) (at located, err error) {
	lists, err := worker.CertificateLists(ctx)
	if err != nil {
		return at, err
	}
	if at.list, err = c.only(lists, certsDir, listFileName); err != nil {
		return at, err
	}
	counts, err := worker.MapCounts(ctx)
	if err != nil {
		return at, err
	}
	if at.names, err = c.only(slices.Collect(maps.Keys(counts)), mapsDir, mapFileName); err != nil {
		return at, err
	}
	files, err := worker.CertificateFiles(ctx, at.list)
	if err != nil {
		return at, err
	}
	at.files = make(map[string]string, len(files))
	left := make(map[string]listedCertificate, len(c.before))
	for _, l := range c.before {
		left[l.file] = l
	}
	var renamed []string // HAProxy has another certificate under this name than the file on disk
	for _, file := range files {
		name := path.Base(file)
		l, ok := left[name]
		if ok && (c.renewed[name] != nil || c.gone[name]) {
			got, err := worker.CertificateSHA1(ctx, file)
			if err != nil {
				return at, err
			}
			ok = got == l.sha1
		}
		if !ok {
			renamed = append(renamed, file)
			continue
		}
		at.files[name] = file
		delete(left, name)
	}
	for _, file := range renamed {
		got, err := worker.CertificateSHA1(ctx, file)
		if err != nil {
			return at, err
		}
		var found []string
		for name, l := range left {
			if l.sha1 == got {
				found = append(found, name)
			}
		}
		if len(found) != 1 {
			return at, fmt.Errorf("%s has the fingerprint %x, which %d files have", file, got, len(found))
		}
		at.files[found[0]] = file
		delete(left, found[0])
	}
	if len(left) > 0 {
		return at, fmt.Errorf("HAProxy lacks %d of %d certificates", len(left), len(c.before))
	}
	return at, nil
}

// The method "only" searches the given paths for a file of the certificate list c.list, in the
// directory sub, whose name matches the pattern. It returns this path. If there is no such path, or
// more than one, the method returns an error.
func (c *certificateChange) only(paths []string, sub string, pattern *regexp.Regexp) (string, error) {
	var found []string
	for _, p := range paths {
		if m := pattern.FindStringSubmatch(path.Base(p)); m != nil && m[1] == c.list && path.Dir(p) == path.Join(c.dir, sub) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return "", errors.New("HAProxy does not have exactly one file of the list " + c.list)
	}
	return found[0], nil
}
