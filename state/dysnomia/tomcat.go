package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Tomcat is the module of components that are web archives of an Apache Tomcat, below webapps, with configurations
// in conf/Catalina.
func Tomcat(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	base := c.Property("catalinaBaseDir", "/var/lib/tomcat10")
	links, err := c.tomcatLinks(base)
	if err != nil {
		return err
	}
	if c.Operation == "deactivate" {
		return errors.Join(linkAll(links, false), c.Directory.Unmark(c.Ref))
	}
	if err := c.await(ctx, filepath.Join(base, "webapps")); err != nil {
		return err
	}
	if err := linkAll(links, true); err != nil {
		return errors.Join(err, linkAll(links, false))
	}
	return c.Directory.MarkActive(c.Ref)
}

// linkAll makes or removes links, by where they lead; in an order in which an archive comes after its configuration.
func linkAll(links [][2]string, wanted bool) error {
	for _, one := range links {
		if wanted {
			if err := mkdirAll(filepath.Dir(one[1])); err != nil {
				return err
			}
		}
		if err := link(one[0], one[1], wanted); err != nil {
			return err
		}
	}
	return nil
}

func (c Call) tomcatLinks(base string) ([][2]string, error) {
	var links [][2]string
	configurations, err := names(filepath.Join(c.Path, "conf/Catalina"))
	if err != nil {
		return nil, err
	}
	for _, name := range configurations {
		links = append(links, [2]string{filepath.Join(c.Path, "conf/Catalina", name), filepath.Join(base, "conf/Catalina/localhost", name)})
	}
	begin, err := filepath.EvalSymlinks(filepath.Join(c.Path, "webapps"))
	if err != nil {
		return nil, err
	}
	archives := len(links)
	err = filepath.WalkDir(begin, func(path string, e fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".war" {
			links = append(links, [2]string{path, filepath.Join(base, "webapps", e.Name())})
		}
		return err
	})
	if err == nil && len(links) == archives {
		err = fmt.Errorf("there is no .war in %s", begin)
	}
	return links, err
}

// await waits until a folder is there, as many seconds as the property timeout says.
func (c Call) await(ctx context.Context, folder string) error {
	seconds, err := strconv.Atoi(c.Property("timeout", "10"))
	if err != nil {
		return fmt.Errorf("%w: timeout %q is not a number of seconds", ErrSettings, c.Property("timeout", ""))
	}
	return c.tryFor(ctx, time.Duration(seconds)*time.Second, func() error {
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder", folder)
		}
		return err
	})
}
