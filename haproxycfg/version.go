package haproxycfg

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// Version is the version of an HAProxy without its patch level: {3, 2} for HAProxy 3.2.26. The zero
// Version means [OldestVersion].
type Version struct{ Major, Minor int }

// OldestVersion returns 2.6, the oldest version for which this package renders configurations. All
// later versions accept a configuration for 2.6.
func OldestVersion() Version { return Version{2, 6} }

// versionLine matches the first line that "haproxy -v" and "haproxy -vv" print. HAProxy before 2.4
// writes "HA-Proxy".
var versionLine = regexp.MustCompile(`(?m)^HA-?Proxy version ([0-9]{1,4})\.([0-9]{1,4})`)

// ParseVersion returns the version in the output of "haproxy -v" or "haproxy -vv".
func ParseVersion(output string) (Version, error) {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		return Version{}, fmt.Errorf("haproxycfg: no line %q in %.100q", "HAProxy version N.N", output)
	}
	major, _ := strconv.Atoi(m[1]) // the pattern allows at most four digits
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}, nil
}

// AtLeast reports whether v is the version major.minor or a later one.
func (v Version) AtLeast(major, minor int) bool {
	v = cmp.Or(v, OldestVersion())
	return cmp.Or(cmp.Compare(v.Major, major), cmp.Compare(v.Minor, minor)) >= 0
}

// String returns the version as HAProxy writes it, such as "3.2".
func (v Version) String() string {
	v = cmp.Or(v, OldestVersion())
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}
