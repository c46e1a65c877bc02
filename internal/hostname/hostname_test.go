package hostname

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	label63 = strings.Repeat("a", 63)
	name253 = strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
)

// names are names without a port. If normal is empty, Normalize must refuse the name with an error
// of this kind.
var names = []struct {
	name, normal string
	kind         Kind
}{
	{"a.example", "a.example", 0},
	{"A.EXAMPLE", "a.example", 0},
	{"a.example.", "a.example", 0},
	{"localhost", "localhost", 0},
	{"1.example", "1.example", 0},
	{"0x7f.example", "0x7f.example", 0},
	{"1a", "1a", 0},
	{"a.0x7g", "a.0x7g", 0},
	{"a_b._c.example", "a_b._c.example", 0},
	{"_", "_", 0},
	{"r3---sn-x.example", "r3---sn-x.example", 0},
	{"ab--c.example", "ab--c.example", 0},
	{"xn--bcher-kva.example", "xn--bcher-kva.example", 0},
	{"XN--BCHER-KVA.example", "xn--bcher-kva.example", 0},
	{"xn--a.example", "xn--a.example", 0},
	{"xn--zzzzzz99.example", "xn--zzzzzz99.example", 0},
	{label63 + ".example", label63 + ".example", 0},
	{name253, name253, 0},
	{name253 + ".", name253, 0},

	{"bücher.example", "xn--bcher-kva.example", 0},
	{"BÜCHER.example.", "xn--bcher-kva.example", 0},
	{"bu\u0308cher.example", "xn--bcher-kva.example", 0}, // u and a combining diaeresis
	{"faß.example", "xn--fa-hia.example", 0},             // "fass" only in transitional mapping
	{"例え。example", "xn--r8jz45g.example", 0},             // an ideographic full stop
	{"bücher.example。", "xn--bcher-kva.example", 0},
	{"ｅｘａｍｐｌｅ．ｃｏｍ", "example.com", 0},
	{"\u212Aelvin.example", "kelvin.example", 0}, // the Kelvin sign
	{"a\u00adb.example", "ab.example", 0},        // a soft hyphen
	{"ab--bücher.example", "xn--ab--bcher-u9a.example", 0},
	{"r3---sn-x.bücher.example", "r3---sn-x.xn--bcher-kva.example", 0},
	{"a_b.bücher.example", "a_b.xn--bcher-kva.example", 0},
	{"bücher_x.example", "xn--bcher_x-n2a.example", 0},
	{strings.Repeat("\U0001D41A", 63) + ".example", label63 + ".example", 0}, // mathematical letters

	{"", "", Malformed},
	{".", "", Malformed},
	{"..", "", Malformed},
	{"。", "", Malformed},
	{".a.example", "", Malformed},
	{"a..example", "", Malformed},
	{"ü..example", "", Malformed},
	{"a.example..", "", Malformed},
	{"a.example。.", "", Malformed},
	{"-a.example", "", Malformed},
	{"a-.example", "", Malformed},
	{"a.-", "", Malformed},
	{"xn--.example", "", Malformed},
	{"a b.example", "", Malformed},
	{"a.example ", "", Malformed},
	{"a.example, b.example", "", Malformed},
	{"a.example/", "", Malformed},
	{"https://a.example", "", Malformed},
	{"a.example\\b", "", Malformed},
	{"x@a.example", "", Malformed},
	{"*", "", Malformed},
	{"a.*.example", "", Malformed},
	{"*a.example", "", Malformed},
	{"＊.example", "", Malformed},
	{"a%2eexample", "", Malformed},
	{"a／b.example", "", Malformed},
	{"[a.example]", "", Malformed},
	{"[", "", Malformed},
	{"a\xff.example", "", Malformed},
	{"ü\xff.example", "", Malformed},
	{"\u200d.example", "", Malformed},
	{"a\u200db.example", "", Malformed},
	{"٣.example", "", Malformed}, // a digit cannot begin a right-to-left label
	{"xn--zzzzzz99.bücher.example", "", Malformed},

	{"a.example\x00.evil", "", ControlCharacter},
	{"a.example\r\n", "", ControlCharacter},
	{"a\t.example", "", ControlCharacter},
	{"a\x7f.example", "", ControlCharacter},

	{"192.0.2.1", "", IPLiteral},
	{"192.0.2.1.", "", IPLiteral},
	{"１９２.0.2.1", "", IPLiteral},
	{"127.1", "", IPLiteral},
	{"2130706433", "", IPLiteral},
	{"0x7f000001", "", IPLiteral},
	{"a.1", "", IPLiteral},
	{"a.0x", "", IPLiteral},
	{"a.0x7f", "", IPLiteral},
	{"a.0X7F", "", IPLiteral},
	{"ü.1", "", IPLiteral},
	{"::1", "", IPLiteral},
	{"2001:db8::1", "", IPLiteral},
	{"::ffff:192.0.2.1", "", IPLiteral},
	{"fe80::1%eth0", "", IPLiteral},
	{"[::1]", "", IPLiteral},
	{"[fe80::1%eth0]", "", IPLiteral},

	{label63 + "a.example", "", TooLong},
	{name253 + "b", "", TooLong}, // the last label has 61 bytes
	{strings.Repeat("a.", 127) + "a", "", TooLong},
	{strings.Repeat("ü", 64) + ".example", "", TooLong},
	{strings.Repeat("ü.", 2000), "", TooLong},
	{strings.Repeat("ü.", 60) + "a", "", TooLong},
}

// hosts are names with a port.
var hosts = []struct {
	host, normal string
	kind         Kind
}{
	{"a.example:443", "a.example", 0},
	{"A.example.:443", "a.example", 0},
	{"a.example:", "a.example", 0},
	{"a.example:0443", "a.example", 0},
	{"BÜCHER.Example.:80", "xn--bcher-kva.example", 0},
	{name253 + ".:65535", name253, 0},
	{":80", "", Malformed},
	{"a.example:http", "", Malformed},
	{"a.example:0", "", Malformed},
	{"a.example:65536", "", Malformed},
	{"a.example:99999999999999999999", "", Malformed},
	{"a.example:+80", "", Malformed},
	{"a.example:80:80", "", Malformed},
	{"a.example:８０", "", Malformed},
	{"https://a.example", "", Malformed},
	{"x:y@a.example", "", Malformed},
	{"192.0.2.1:80", "", IPLiteral},
	{"[::1]:443", "", IPLiteral},
	{"[192.0.2.1]:443", "", IPLiteral},
}

func check(t *testing.T, normalize func(string) (string, error), in, normal string, kind Kind) {
	t.Helper()
	got, err := normalize(in)
	require.Equal(t, normal, got, "%q", in)
	if normal != "" {
		require.NoError(t, err, "%q", in)
		return
	}
	var e *Error
	require.ErrorAs(t, err, &e, "%q", in)
	require.Equal(t, kind, e.Kind, "%q: %v", in, err)
	require.NotEmpty(t, e.What)
	require.GreaterOrEqual(t, e.Offset, 0, "%q", in)
	require.LessOrEqual(t, e.Offset, len(in), "%q", in)
}

func TestNormalize(t *testing.T) {
	for _, c := range names {
		check(t, Normalize, c.name, c.normal, c.kind)
		check(t, NormalizeHost, c.name, c.normal, c.kind)
		check(t, NormalizePattern, c.name, c.normal, c.kind)
		if c.normal != "" {
			check(t, Normalize, c.normal, c.normal, 0)
			check(t, NormalizeServerName, c.normal, c.normal, 0)
		}
	}
}

func TestNormalizeHost(t *testing.T) {
	for _, c := range hosts {
		check(t, NormalizeHost, c.host, c.normal, c.kind)
		check(t, NormalizePattern, c.host, c.normal, c.kind)
		for _, withoutPort := range []func(string) (string, error){Normalize, NormalizeServerName} {
			_, err := withoutPort(c.host)
			require.Error(t, err, "%q", c.host)
		}
	}
}

func TestNormalizeServerName(t *testing.T) {
	for _, c := range names {
		if !strings.ContainsFunc(c.name, func(r rune) bool { return r > 0x7f }) {
			check(t, NormalizeServerName, c.name, c.normal, c.kind)
		} else {
			_, err := NormalizeServerName(c.name)
			require.Error(t, err, "%q", c.name)
		}
	}
}

func TestNormalizePattern(t *testing.T) {
	for _, c := range names {
		if normal := c.normal; normal != "" && len(normal) <= 251 {
			check(t, NormalizePattern, "*."+c.name, "*."+normal, 0)
		} else if normal == "" {
			check(t, NormalizePattern, "*."+c.name, "", c.kind)
		}
	}
	check(t, NormalizePattern, "*.A.example.:8080", "*.a.example", 0)
	check(t, NormalizePattern, "*."+name253[2:], "*."+name253[2:], 0)
	check(t, NormalizePattern, "*."+name253[1:], "", TooLong)
	check(t, NormalizePattern, "*.*.example", "", Malformed)
	check(t, NormalizePattern, "**.example", "", Malformed)
}

// An error names the fault and the byte, and never repeats the text.
func TestError(t *testing.T) {
	for host, want := range map[string]string{
		"a.exam\nple":      "control character at byte 6",
		"a..example":       "empty label at byte 2",
		"a.example:8o":     "port that is not a number at byte 11",
		"a.example:0":      "port that is not from 1 to 65535 at byte 10",
		"a.10":             "last label that is a number, as in an IP address, at byte 2",
		"[::1]:80":         "IP address at byte 0",
		"ab.exa-.example":  "hyphen at the end of a label at byte 6",
		"*.ab.exa-.x":      "hyphen at the end of a label at byte 8",
		"a\xff.example":    "character outside ASCII in a name that is not UTF-8 at byte 1",
		"a.\u200d.example": "character that IDNA does not allow here at byte 2",
		"a.ü..example":     "empty label after the mapping of IDNA at byte 2",
	} {
		_, err := NormalizePattern(host)
		require.EqualError(t, err, want, "%q", host)
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		pattern, host string
		want          bool
	}{
		{"*.x.com", "a.x.com", true},
		{"*.com", "x.com", true},
		{"*.x.com", "x.com", false},
		{"*.x.com", "a.b.x.com", false},
		{"*.x.com", "ax.com", false},
		{"*.x.com", ".x.com", false},
		{"*.x.com", "*.x.com", false},
		{"*.", "a.", true},
		{"*", "a", false},
		{"", "a.com", false},
		{"a.x.com", "a.x.com", false},
	} {
		require.Equal(t, test.want, Covers(test.pattern, test.host), "%q %q", test.pattern, test.host)
	}
}

func TestNormalNamesDoNotAllocate(t *testing.T) {
	for _, host := range []string{"a.example", "a.example.", "a.example:443", "xn--bcher-kva.example"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { NormalizeHost(host) }), host) //nolint:errcheck // above
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { NormalizeServerName("a.example.") })) //nolint:errcheck // above
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { NormalizeHost("A.Example:443") }), 1.0)
}

// FuzzNormalize checks the promises of the package for every input. Each normal form is its own
// normal form. If one function accepts a name, the others accept it too.
func FuzzNormalize(f *testing.F) {
	for _, c := range names {
		f.Add(c.name)
	}
	for _, c := range hosts {
		f.Add(c.host)
		f.Add("*." + c.host)
	}
	f.Fuzz(func(t *testing.T, in string) {
		pattern, err := NormalizePattern(in)
		if err != nil {
			require.Empty(t, pattern)
			var e *Error
			require.ErrorAs(t, err, &e)
			for _, normalize := range []func(string) (string, error){Normalize, NormalizeServerName, NormalizeHost} {
				_, err := normalize(in)
				require.Error(t, err, "%q", in)
			}
			return
		}
		name, wildcard := strings.CutPrefix(pattern, "*.")
		requireNormal(t, pattern, name)
		for _, spelling := range []string{name, name + ".", strings.ToUpper(name)} {
			for _, normalize := range []func(string) (string, error){Normalize, NormalizeServerName, NormalizeHost, NormalizePattern} {
				got, err := normalize(spelling)
				require.NoError(t, err, "%q", spelling)
				require.Equal(t, name, got)
			}
		}
		again, err := NormalizePattern(strings.ToUpper(pattern) + ".:8080")
		require.NoError(t, err)
		require.Equal(t, pattern, again)
		host, err := NormalizeHost(in)
		require.Equal(t, wildcard, err != nil)
		if wildcard {
			return
		}
		require.Equal(t, name, host)
		for _, normalize := range []func(string) (string, error){Normalize, NormalizeServerName} {
			if got, err := normalize(in); err == nil { // without a port, or ASCII
				require.Equal(t, name, got)
			}
		}
	})
}

// requireNormal checks the rules of the normal form, without the code of the package.
func requireNormal(t *testing.T, pattern, name string) {
	t.Helper()
	require.LessOrEqual(t, len(pattern), 253)
	for label := range strings.SplitSeq(name, ".") {
		require.Regexp(t, `^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`, label)
	}
	require.NotRegexp(t, `(^|\.)(0x[0-9a-f]*|[0-9]+)$`, name)
}
