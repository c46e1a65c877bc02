package peer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// FindNginx returns the nginx at the path. An empty path means the nginx of this machine. For
// halfClose, see [Nginx].
func FindNginx(path string, halfClose bool) (Router, error) {
	path, module, version, err := findNginx(path)
	return Nginx(path, module, version, halfClose), err
}

// FindNginxUDP returns the nginx of this machine as a proxy for UDP.
func FindNginxUDP() (Router, error) {
	path, module, version, err := findNginx("")
	return NginxUDP(path, module, version), err
}

func findNginx(path string) (found, module, version string, err error) {
	found, about, err := versioned("nginx", path, "nginx libnginx-mod-stream", "-V")
	if err != nil {
		return "", "", "", err
	}
	switch {
	case strings.Contains(about, "--with-stream=dynamic"):
		if module = streamModule(found); module == "" {
			return "", "", "", fmt.Errorf("peer: %s has no stream module: apt-get install libnginx-mod-stream", found)
		}
	case !strings.Contains(about, "--with-stream"):
		return "", "", "", fmt.Errorf("peer: %s is built without its stream module", found)
	}
	return found, module, number(about), nil
}

// streamModule returns the path of the stream module of the given nginx, or "" if there is none. It
// first searches below the directory of the given nginx, where the script .ci/nginx puts the module,
// and then the directories of the system.
func streamModule(nginx string) string {
	for _, dir := range []string{filepath.Join(filepath.Dir(nginx), "root/usr/lib/nginx/modules"), "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"} {
		module := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(module); err == nil {
			return module
		}
	}
	return ""
}

// FindHAProxy returns the HAProxy at the path. An empty path means the HAProxy of this machine.
func FindHAProxy(path string) (Router, error) {
	path, about, err := versioned("haproxy", path, "haproxy", "-v")
	return HAProxy(path, number(about)), err
}

// FindSNIProxy returns the sniproxy of this machine.
func FindSNIProxy() (Router, error) {
	path, about, err := versioned("sniproxy", "", "sniproxy", "-V")
	return SNIProxy(path, number(about)), err
}

// versioned returns the program at the path, and its output with the flag, which contains the
// version. If the path is empty, versioned searches the machine for a program with the given
// name. If there is none, the error tells the user to install the given Debian packages.
func versioned(name, path, packages, flag string) (found, about string, err error) {
	if path == "" {
		found, err = find(name, packages)
	} else {
		found, err = exec.LookPath(path)
	}
	if err != nil {
		return "", "", err
	}
	out, err := exec.Command(found, flag).CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("peer: %s %s: %w", found, flag, err)
	}
	return found, string(out), nil
}

// find searches for a program in PATH. It also searches the directories in which Debian installs
// servers, because the PATH of a user does not contain these directories.
func find(name, packages string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("peer: no %s: apt-get install --no-install-recommends %s", name, packages)
}

var versionNumber = regexp.MustCompile(`[0-9]+\.[0-9]+[0-9.]*[0-9]`)

// number returns the first version number in the output of a program.
func number(about string) string { return versionNumber.FindString(about) }
