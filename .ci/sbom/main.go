// Sbom checks lists of modules (SBOM) in the format CycloneDX 1.6.
//
// Usage, in the directory of this program:
//
//	sbom LIST BINARY   fails if LIST breaks the JSON schema of CycloneDX, or does not name exactly the modules of BINARY
package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("sbom: ")
	if len(os.Args) != 3 {
		log.Fatal("usage: sbom LIST BINARY")
	}
	schema, err := compile()
	if err != nil {
		log.Fatal(err)
	}
	if err := check(schema, os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("%s: %v", os.Args[1], err)
	}
}

// compile returns the JSON schema of CycloneDX 1.6. It reads the files of the schema in the Go
// module cyclonedx-go.
func compile() (*jsonschema.Schema, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	const base = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	for url, file := range map[string]string{
		"bom-1.6.schema.json":  "bom-1.6.schema.json",
		"spdx.schema.json":     "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		doc, err := readJSON(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		if err := c.AddResource(base+url, doc); err != nil {
			return nil, err
		}
	}
	return c.Compile(base + "bom-1.6.schema.json")
}

func readJSON(file string) (any, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return jsonschema.UnmarshalJSON(f)
}

func check(schema *jsonschema.Schema, list, binary string) error {
	doc, err := readJSON(list)
	if err != nil {
		return err
	}
	if err := schema.Validate(doc); err != nil {
		return err
	}
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(f, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return err
	}
	var listed []string
	if bom.Components != nil {
		for _, c := range *bom.Components {
			listed = append(listed, c.Name+" "+c.Version)
		}
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	want := []string{"std " + info.GoVersion}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	return compare(listed, want)
}

// compare returns an error that names the modules that are only in one of the two lists.
func compare(listed, want []string) error {
	var errs []error
	for _, m := range want {
		if !slices.Contains(listed, m) {
			errs = append(errs, fmt.Errorf("the list lacks %s", m))
		}
	}
	for _, m := range listed {
		if !slices.Contains(want, m) {
			errs = append(errs, fmt.Errorf("the list has %s, which the binary lacks", m))
		}
	}
	return errors.Join(errs...)
}
