package peer

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// FindNginx returns the nginx of this machine.
func FindNginx() (Router, error) {
	path, module, version, err := findNginx()
	return Nginx(path, module, version), err
}

// FindNginxUDP returns the nginx of this machine as a proxy for UDP.
func FindNginxUDP() (Router, error) {
	path, module, version, err := findNginx()
	return NginxUDP(path, module, version), err
}

func findNginx() (path, module, version string, err error) {
	path, err = find("nginx", "nginx libnginx-mod-stream")
	if err != nil {
		return "", "", "", err
	}
	about, err := exec.Command(path, "-V").CombinedOutput()
	if err != nil {
		return "", "", "", fmt.Errorf("peer: %s -V: %w", path, err)
	}
	switch {
	case strings.Contains(string(about), "--with-stream=dynamic"):
		for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"} {
			if found, _ := filepath.Glob(dir + "/ngx_stream_module.so"); len(found) > 0 {
				module = found[0]
			}
		}
		if module == "" {
			return "", "", "", errors.New("peer: nginx has no stream module: apt-get install libnginx-mod-stream")
		}
	case !strings.Contains(string(about), "--with-stream"):
		return "", "", "", errors.New("peer: nginx is built without its stream module")
	}
	return path, module, number(about), nil
}

// FindHAProxy returns the HAProxy of this machine.
func FindHAProxy() (Router, error) {
	path, version, err := versioned("haproxy", "-v")
	return HAProxy(path, version), err
}

// FindSNIProxy returns the sniproxy of this machine.
func FindSNIProxy() (Router, error) {
	path, version, err := versioned("sniproxy", "-V")
	return SNIProxy(path, version), err
}

func versioned(name, flag string) (path, version string, err error) {
	if path, err = find(name, name); err != nil {
		return "", "", err
	}
	about, err := exec.Command(path, flag).CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("peer: %s %s: %w", path, flag, err)
	}
	return path, number(about), nil
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
func number(about []byte) string { return versionNumber.FindString(string(about)) }
