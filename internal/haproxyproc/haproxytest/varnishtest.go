package haproxytest

import (
	"os"
	"os/exec"
	"testing"
)

// Varnishtest runs a test file of varnishtest, the language of HAProxy's own regression tests, with
// the haproxy that Binary returns. In the file, ${NAME} stands for macros["NAME"]. If the file
// fails, the test fails and logs varnishtest's output.
func Varnishtest(t testing.TB, file string, macros map[string]string) {
	t.Helper()
	const program = "varnishtest"
	if _, err := exec.LookPath(program); err != nil {
		t.Fatal("haproxytest: no varnishtest on PATH; get it with: apt-get install varnish (or run make test)")
	}
	args := []string{"-t", "60"} // seconds
	for name, value := range macros {
		args = append(args, "-D"+name+"="+value)
	}
	cmd := exec.Command(program, append(args, file)...)
	cmd.Env = append(os.Environ(), "HAPROXY_PROGRAM="+Binary(t), "TMPDIR="+Dir(t)) // its sockets need a short path
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("varnishtest %s: %v\n%s", file, err, out)
	}
}
