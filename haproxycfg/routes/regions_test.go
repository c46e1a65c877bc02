package routes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRegions(t *testing.T) {
	regions, problems, ok := ParseRegions("r.yaml", []byte(`
header: CloudFront-Viewer-Country
regions:
- name: eu
  networks: [192.0.2.0/24, "2001:db8::/32"]
  values: [DE, fr]
- name: us
  networks: [192.0.2.128/25]
`))
	require.True(t, ok)
	require.Empty(t, problems)
	require.Equal(t, Regions{Header: "cloudfront-viewer-country", Regions: []Region{
		{"eu", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, []string{"de", "fr"}},
		{"us", []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}, nil},
	}}, regions)
	require.True(t, regions.Has("us"))
	require.False(t, regions.Has("ap"))
	require.True(t, regions.Equal(regions))
	require.False(t, regions.Equal(Regions{Header: regions.Header, Regions: regions.Regions[:1]}))
	empty, problems, ok := ParseRegions("r.yaml", []byte("regions: []"))
	require.True(t, ok)
	require.Empty(t, problems)
	require.Equal(t, Regions{}, empty)
}

// TestParseRegionsKeepsTheRest puts one bad entry into a file, and requires that ParseRegions keeps
// everything else.
func TestParseRegionsKeepsTheRest(t *testing.T) {
	for entry, want := range map[string]string{
		"{name: EU}":                        `5: regions[1].name: "EU" must begin and end with a lower-case letter or a digit; the region is left out`,
		"{networks: [10.0.0.0/8]}":          `5: regions[1].name: is missing; the region is left out`,
		"eu":                                `5: regions[1]: must be a mapping, not the string "eu"`,
		"{name: first}":                     `5: regions[1].name: "first" is the region in line 3 already; this entry is left out`,
		"{name: x, networks: [10.0.0.1]}":   `5: regions[1].networks[0]: "10.0.0.1" is not a network such as 192.0.2.0/24; it is left out`,
		"{name: x, networks: [10.0.0.1/8]}": `5: regions[1].networks[0]: "10.0.0.1/8" has bits after its prefix: write 10.0.0.0/8; it is left out`,
		`{name: x, networks: ["::ffff:1.0.0.0/120"]}`: `5: regions[1].networks[0]: "::ffff:1.0.0.0/120" is an IPv4 network in IPv6 form: write it as an IPv4 network; it is left out`,
		"{name: x, networks: [192.0.2.0/24]}":         `5: regions[1].networks[0]: "192.0.2.0/24" is a network of the region first already; it is left out`,
		"{name: x, values: [De]}":                     `5: regions[1].values[0]: "De" is a value of the region first already; it is left out`,
		"{name: x, values: ['a b']}":                  `5: regions[1].values[0]: "a b" is not a value of 1 to 64 letters, digits and "-_."; it is left out`,
		"{name: x, network: []}":                      `5: regions[1].network: unknown field, did you mean networks?`,
	} {
		t.Run(entry, func(t *testing.T) {
			regions, problems, ok := ParseRegions("r.yaml", []byte("header: X-Country\nregions:\n- {name: first, networks: [192.0.2.0/24],\n   values: [de]}\n- "+entry+"\n- {name: last, networks: [198.51.100.0/24]}\n"))
			require.True(t, ok)
			require.Len(t, problems, 1)
			require.Equal(t, "r.yaml:"+want, problems[0].Error())
			require.Equal(t, "first", regions.Regions[0].Name)
			require.Equal(t, Region{Name: "last", Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, regions.Regions[len(regions.Regions)-1])
			for _, r := range regions.Regions[1 : len(regions.Regions)-1] {
				require.Equal(t, Region{Name: "x"}, r, "only the bad entry is missing")
			}
		})
	}
}

// TestParseRegionsOfNoUse: nothing of such a file can be used, and the last problem says why.
func TestParseRegionsOfNoUse(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "r.yaml:1: the file is empty; an intended empty list says regions: []",
		"regions: [":                    "r.yaml:1: did not find expected node content",
		"- name: eu":                    `r.yaml:1: must be a mapping; put the list under "regions:"`,
		"region: []":                    "r.yaml:1: the file has no regions",
		"regions: []\n---\nregions: []": "r.yaml:3: has more than one document",
	} {
		regions, problems, ok := ParseRegions("r.yaml", []byte(text))
		require.False(t, ok, text)
		require.Empty(t, regions)
		require.Contains(t, problems[len(problems)-1].Error(), want)
	}
	_, problems, ok := ParseRegions("r.yaml", make([]byte, MaxFileBytes+1))
	require.False(t, ok)
	require.Contains(t, problems[0].Message, "more than")
}

func TestParseRegionsHeader(t *testing.T) {
	for _, name := range []string{"Host", "cookie", "X-Forwarded-For", "a b", "a_b", strings.Repeat("a", 65)} {
		regions, problems, ok := ParseRegions("r.yaml", []byte("header: "+name+"\nregions: [{name: eu, values: [de]}]"))
		require.True(t, ok)
		require.Empty(t, regions.Header)
		require.True(t, regions.Has("eu"))
		require.Len(t, problems, 2)
		require.Contains(t, problems[1].Message, "values of the regions have no effect")
	}
}

func TestParseRegionsLimits(t *testing.T) {
	var text strings.Builder
	text.WriteString("regions:\n- name: big\n  networks:\n")
	for i := range MaxNetworks + 2 {
		fmt.Fprintf(&text, "  - %s/32\n", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	for i := range MaxRegions + 1 {
		fmt.Fprintf(&text, "- name: r%d\n", i)
	}
	regions, problems, ok := ParseRegions("r.yaml", []byte(text.String()))
	require.True(t, ok)
	require.Len(t, problems, 2)
	require.Contains(t, problems[0].Message, "more than 100000 networks")
	require.Contains(t, problems[1].Message, "more than 1000 regions")
	require.Len(t, regions.Regions, MaxRegions)
	require.Len(t, regions.Regions[0].Networks, MaxNetworks)

	// A short file with aliases can stand for very many entries.
	text.Reset()
	text.WriteString("x-a: &a [" + strings.Repeat("x,", 30_000) + "]\nregions:\n")
	for i := range 900 {
		fmt.Fprintf(&text, "- {name: r%d, networks: *a}\n", i)
	}
	_, problems, ok = ParseRegions("r.yaml", []byte(text.String()))
	require.True(t, ok)
	require.LessOrEqual(t, len(problems), 10_000)
}

// FuzzParseRegions: ParseRegions never panics, and everything that it returns is in normal form.
func FuzzParseRegions(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		regions, problems, ok := ParseRegions("f.yaml", data)
		if !ok {
			require.NotEmpty(t, problems)
			require.Empty(t, regions)
		}
		for _, p := range problems {
			require.Equal(t, "f.yaml", p.File)
			require.Positive(t, p.Line)
			require.NotContains(t, p.Error(), "\n")
		}
		if regions.Header != "" {
			require.Regexp(t, `^[a-z0-9-]{1,64}$`, regions.Header)
		}
		names, networks, values := map[string]bool{}, map[netip.Prefix]bool{}, map[string]bool{}
		for _, r := range regions.Regions {
			require.Regexp(t, nameForm, r.Name)
			require.False(t, names[r.Name])
			names[r.Name] = true
			for _, n := range r.Networks {
				require.True(t, n.IsValid() && n == n.Masked() && !n.Addr().Is4In6() && !networks[n], n)
				networks[n] = true
			}
			for _, v := range r.Values {
				require.Regexp(t, `^[a-z0-9._-]{1,64}$`, v)
				require.False(t, values[v])
				values[v] = true
			}
		}
	})
}
