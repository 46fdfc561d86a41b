package webapp

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a web server that runs.
type world struct {
	module    state.Module
	container state.Properties
	root      string
	port      int
	vhost     string // a good piece of configuration that answers /alias/ from the folder %s
}

func module(t *testing.T, name string) state.Module {
	t.Helper()
	for _, m := range New(nil) {
		if m.Describe().Name == name {
			return m
		}
	}
	t.Fatalf("no module %s", name)
	return nil
}

// keep closes a daemon at the end of the test, after the components, and waits for its end.
func keep(t *testing.T, d testenv.Daemon) {
	t.Helper()
	must(t, os.MkdirAll(d.Folder, 0o755))
	alive := testenv.Start(t, d)
	t.Cleanup(func() {
		must(t, alive.Close())
		err := await(context.WithoutCancel(t.Context()), time.Minute, func(context.Context) error {
			if _, err := os.Stat(d.Folder); !errors.Is(err, fs.ErrNotExist) {
				return errors.New("its folder is there")
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s does not end: %v", d.Path, err)
		}
	})
}

func listens(port int) func([]byte) bool {
	return func([]byte) bool {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		return err == nil && response.Body.Close() == nil
	}
}

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755)) // the server's user looks into it
	}
	for _, sub := range []string{"www", "conf.d"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	return dir
}

func nginx(t *testing.T) world {
	t.Helper()
	program := testenv.Nginx(t)
	dir, port := folder(t), testenv.FreePort(t)
	config := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr;
events {}
http {
 access_log off;
 client_body_temp_path %[1]s/tmp1; proxy_temp_path %[1]s/tmp2; fastcgi_temp_path %[1]s/tmp3; uwsgi_temp_path %[1]s/tmp4; scgi_temp_path %[1]s/tmp5;
 server { listen 127.0.0.1:%[2]d; root %[1]s/www; include %[1]s/conf.d/*.conf; }
}
`, dir, port), 0o600))
	keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{"-c", config}, Ready: listens(port)})
	return world{
		module: module(t, "nginx-webapplication"), root: filepath.Join(dir, "www"), port: port, vhost: "location /alias/ { alias %s/; }\n",
		container: state.Properties{"documentRoot": filepath.Join(dir, "www"), "configurationDir": filepath.Join(dir, "conf.d"), "configuration": config},
	}
}

func apache(t *testing.T) world {
	t.Helper()
	program := testenv.Need(t, "apache2", "apt-get install apache2", "/usr/sbin/apache2")
	dir, port := folder(t), testenv.FreePort(t)
	config := filepath.Join(dir, "apache2.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `ServerRoot /usr/lib/apache2
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
LoadModule mime_module modules/mod_mime.so
LoadModule alias_module modules/mod_alias.so
ServerName localhost
User www-data
Group www-data
Listen 127.0.0.1:%[2]d
PidFile %[1]s/pid
DefaultRuntimeDir %[1]s
ErrorLog /dev/stderr
TypesConfig /dev/null
DocumentRoot %[1]s/www
IncludeOptional %[1]s/conf.d/*.conf
`, dir, port), 0o600))
	keep(t, testenv.Daemon{Folder: filepath.Join(dir, "daemon"), Path: program, Args: []string{"-f", config, "-DFOREGROUND"}, Ready: listens(port)})
	return world{
		module: module(t, "apache-webapplication"), root: filepath.Join(dir, "www"), port: port, vhost: "Alias /alias/ %s/\n",
		container: state.Properties{"documentRoot": filepath.Join(dir, "www"), "configurationDir": filepath.Join(dir, "conf.d"), "configuration": config},
	}
}

// archive makes a tar file with files by name.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(content))
		must(t, err)
	}
	must(t, w.Close())
	path := filepath.Join(t.TempDir(), "content.tar")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func (w world) target(t *testing.T, name string) state.Target {
	t.Helper()
	m := w.module.Describe().Name
	target := state.Target{
		Component: state.Component{Name: name, Module: m, Container: m, Properties: state.Properties{
			"content": archive(t, map[string]string{"index.html": "first light", "data/uploads/seed": "seed"}), "mutable": []string{"data/uploads"},
			"url": fmt.Sprintf("http://127.0.0.1:%d/%s/index.html", w.port, strings.ReplaceAll(name, "@", "--")),
		}},
		Container: state.Container{Name: m, Module: m, Properties: w.container, Directory: t.TempDir()}, Directory: t.TempDir(),
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		must(t, w.module.Deactivate(ctx, target))
		must(t, w.module.(state.Stateful).CollectGarbage(ctx, target))
	})
	return target
}

// page reads a page of the server; empty if there is none.
func (w world) page(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", w.port, path))
	must(t, err)
	body, err := io.ReadAll(response.Body)
	must(t, errors.Join(err, response.Body.Close()))
	if response.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

func TestServers(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	for name, start := range map[string]func(*testing.T) world{"nginx": nginx, "apache": apache} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			t.Run("Conformance", w.conformance)
			t.Run("Life", w.life)
			t.Run("Configuration", w.configuration)
			t.Run("Foreign", w.foreign)
		})
	}
}

func (w world) uploads(target state.Target) string {
	return filepath.Join(w.root, strings.ReplaceAll(target.Component.Name, "@", "--"), "data/uploads")
}

func (w world) conformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: w.module, NewTarget: w.target,
		Bad: []state.Properties{
			{},
			{"content": "relative"},
			{"content": "/x", "path": ".."},
			{"content": "/x", "mutable": []string{"../x"}},
			{"content": "/x", "mutable": []string{"a", "a/b"}},
			{"content": "/x", "configuration": "relative"},
		},
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(w.uploads(target), fmt.Sprint(n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			must(t, err)
			_, err = fmt.Fprintln(f, "upload", n)
			must(t, errors.Join(err, f.Close()))
		},
		Digest: func(t *testing.T, target state.Target) string {
			t.Helper()
			var b strings.Builder
			must(t, fs.WalkDir(os.DirFS(w.uploads(target)), ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				content, err := os.ReadFile(filepath.Join(w.uploads(target), path))
				fmt.Fprintf(&b, "%s: %s\n", path, content)
				return err
			}))
			return b.String()
		},
	})
}

// life follows an application through new content, from a folder, that keeps what was uploaded.
func (w world) life(t *testing.T) {
	target := w.target(t, "life@blue")
	must(t, w.module.Activate(t.Context(), target))
	if got := w.page(t, "life--blue/index.html") + w.page(t, "life--blue/data/uploads/seed"); got != "first lightseed" {
		t.Errorf("pages %q", got)
	}
	must(t, os.WriteFile(filepath.Join(w.uploads(target), "picture"), []byte("moon"), 0o644))
	content := t.TempDir()
	must(t, os.WriteFile(filepath.Join(content, "index.html"), []byte("second"), 0o644))
	target.Component.Properties["content"] = content
	for range 2 {
		must(t, w.module.Activate(t.Context(), target))
	}
	if got := w.page(t, "life--blue/index.html") + w.page(t, "life--blue/data/uploads/picture"); got != "secondmoon" {
		t.Errorf("pages %q", got)
	}
	// Content that does not answer is taken back.
	target.Component.Properties["content"] = archive(t, map[string]string{"other.html": "x"})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.module.Activate(ctx, target); err == nil {
		t.Error("activated without its page")
	}
	if got := w.page(t, "life--blue/index.html"); got != "second" {
		t.Errorf("page %q", got)
	}
	must(t, w.module.Deactivate(t.Context(), target))
	entries, err := os.ReadDir(w.root)
	must(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), "life--blue") && e.Name() != ".life--blue.orrery-state" {
			t.Errorf("left: %s", e.Name())
		}
	}
}

func (w world) configuration(t *testing.T) {
	target := w.target(t, "configured")
	snippet := filepath.Join(t.TempDir(), "snippet")
	write := func(text string) { must(t, os.WriteFile(snippet, []byte(text), 0o600)) }
	answers := func() {
		testenv.Eventually(t, "the alias answers", func() bool { return w.page(t, "alias/index.html") == "first light" })
	}
	p := target.Component.Properties
	p["configuration"], p["url"] = snippet, fmt.Sprintf("http://127.0.0.1:%d/alias/index.html", w.port)
	write(fmt.Sprintf(w.vhost, filepath.Join(w.root, "configured")))
	must(t, w.module.Activate(t.Context(), target))
	answers() // also when the processes from before the reload are gone
	placed := filepath.Join(w.container["configurationDir"].(string), "configured.conf")
	before, err := os.ReadFile(placed)
	must(t, err)
	write("no such directive at all;\n")
	if err := w.module.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "does not accept") {
		t.Error(err)
	}
	if now, err := os.ReadFile(placed); err != nil || !bytes.Equal(now, before) {
		t.Errorf("the configuration before is gone: %q, %v", now, err)
	}
	answers() // also when the processes from before the reload are gone
	must(t, w.module.Deactivate(t.Context(), target))
	if _, err := os.Stat(placed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	testenv.Eventually(t, "the alias is gone", func() bool { return w.page(t, "alias/index.html") == "" })
}

// foreign has somebody else's files where the application would be.
func (w world) foreign(t *testing.T) {
	target := w.target(t, "foreign")
	path := filepath.Join(w.root, "foreign")
	must(t, os.Mkdir(path, 0o755))
	if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	must(t, w.module.Deactivate(t.Context(), target))
	must(t, os.Remove(path))
	snippet := filepath.Join(t.TempDir(), "snippet")
	must(t, os.WriteFile(snippet, nil, 0o600))
	target.Component.Properties["configuration"] = snippet
	placed := filepath.Join(w.container["configurationDir"].(string), "foreign.conf")
	must(t, os.WriteFile(placed, []byte("# mine\n"), 0o600))
	if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	if content, err := os.ReadFile(placed); err != nil || string(content) != "# mine\n" {
		t.Errorf("%q, %v", content, err)
	}
	must(t, os.Remove(placed))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}

func TestMissingServer(t *testing.T) {
	for _, m := range New(nil) {
		target := world{module: m, container: state.Properties{"documentRoot": "/no/such"}}.bare(t)
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", m.Describe().Name, err)
		}
		must(t, m.Deactivate(t.Context(), target))
	}
}

func (w world) bare(t *testing.T) state.Target {
	t.Helper()
	container := w.container
	if _, ok := w.module.(Tomcat); ok {
		container = state.Properties{"catalinaBaseDir": "/no/such"}
	}
	return state.Target{
		Component: state.Component{Name: "x", Properties: state.Properties{"content": archive(t, map[string]string{"a": "b"})}},
		Container: state.Container{Name: "c", Properties: container, Directory: t.TempDir()}, Directory: t.TempDir(),
	}
}

func warFile(t *testing.T, page string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("index.jsp")
	must(t, err)
	_, err = io.WriteString(f, page)
	must(t, errors.Join(err, w.Close()))
	path := filepath.Join(t.TempDir(), "app.war")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func TestTomcat(t *testing.T) {
	script := testenv.Need(t, "catalina.sh", "apt-get install tomcat10", "/usr/share/tomcat10/bin/catalina.sh")
	testenv.Need(t, "java", "apt-get install default-jre-headless", "/usr/bin/java")
	t.Parallel()
	base, port := t.TempDir(), testenv.FreePort(t)
	for _, sub := range []string{"conf", "webapps", "temp", "work", "logs"} {
		must(t, os.Mkdir(filepath.Join(base, sub), 0o755))
	}
	web, err := os.ReadFile("/etc/tomcat10/web.xml")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(base, "conf/web.xml"), web, 0o600))
	must(t, os.WriteFile(filepath.Join(base, "conf/server.xml"), fmt.Appendf(nil, `<Server port="-1"><Service name="Catalina">
<Connector port="%d" address="127.0.0.1"/>
<Engine name="Catalina" defaultHost="localhost" backgroundProcessorDelay="1"><Host name="localhost" appBase="webapps" unpackWARs="true" autoDeploy="true"/></Engine>
</Service></Server>`, port), 0o600))
	keep(t, testenv.Daemon{
		Folder: filepath.Join(base, "daemon"), Path: script, Args: []string{"run"}, Env: []string{"CATALINA_BASE=" + base, "CATALINA_HOME=/usr/share/tomcat10"},
		Stop: syscall.SIGKILL, Ready: listens(port),
	})
	m := Tomcat{}
	newTarget := func(t *testing.T, name string) state.Target {
		t.Helper()
		target := state.Target{
			Component: state.Component{Name: name, Container: "tomcat", Properties: state.Properties{"content": warFile(t, `<%= "planet " + (4 + 5) %>`)}},
			Container: state.Container{Name: "tomcat", Properties: state.Properties{"catalinaBaseDir": base, "url": fmt.Sprint("http://127.0.0.1:", port)}}, Directory: t.TempDir(),
		}
		t.Cleanup(func() { must(t, m.Deactivate(context.WithoutCancel(t.Context()), target)) })
		return target
	}
	moduletest.Run(t, moduletest.Harness{Module: m, NewTarget: newTarget, Bad: []state.Properties{{}, {"content": "/x", "path": "a/b"}, {"content": "/x", "ready": "relative"}}})
	target := newTarget(t, "planets")
	must(t, m.Activate(t.Context(), target))
	if got := (world{port: port}).page(t, "planets/"); got != "planet 9" {
		t.Errorf("page %q", got)
	}
	must(t, m.Deactivate(t.Context(), target))
	entries, err := os.ReadDir(filepath.Join(base, "webapps"))
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	// A broken archive is taken away again.
	broken := newTarget(t, "broken")
	must(t, os.WriteFile(broken.Component.Properties["content"].(string), []byte("no zip"), 0o600))
	broken.Component.Properties["timeout"] = "3s"
	if err := m.Activate(t.Context(), broken); err == nil {
		t.Error("deployed what is no war")
	}
	// So is nothing of somebody else.
	foreign := newTarget(t, "foreign")
	path := filepath.Join(base, "webapps", "foreign")
	must(t, os.Mkdir(path, 0o755))
	if err := m.Activate(t.Context(), foreign); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	must(t, errors.Join(m.Deactivate(t.Context(), foreign), os.Remove(path)))
}
