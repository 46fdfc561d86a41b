package dysnomia

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Catalog finds what is described on search paths: folders that are looked through in order. The first finding counts.
type Catalog struct {
	Containers []string // folders of container files
	Components []string // folders of CONTAINER/COMPONENT
	Modules    []string // folders of executables, before the built-in modules
	NixStore   string   // names below it begin with a hash, which is no part of the name
	Builtin    map[string]Operator
}

// isPath says whether something is the path of a file, not a name to look for.
func isPath(s string) bool { return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") }

// canonical is an absolute path without links, as far as it exists.
func canonical(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return real, err
}

// ContainerNames lists the containers.
func (c Catalog) ContainerNames() ([]string, error) {
	var all []string
	for _, folder := range c.Containers {
		found, err := names(folder)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Container returns the settings of a container by its name or the path of its file.
func (c Catalog) Container(container string) (Settings, error) {
	if isPath(container) {
		return ReadSettings(container)
	}
	if err := CheckName(container); err != nil {
		return nil, fmt.Errorf("container: %w", err)
	}
	for _, folder := range c.Containers {
		path := filepath.Join(folder, container)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return ReadSettings(path)
		}
	}
	return nil, notFound("No container configuration found for: " + container)
}

// Available is a component that can be deployed.
type Available struct {
	Ref         // by the name in its folder
	Path string // without links
	Name string // what its state is called
}

// Available lists the components that the catalog has, of one container unless that is empty.
func (c Catalog) Available(container string) ([]Available, error) {
	seen := map[Ref]bool{}
	var all []Available
	for _, folder := range c.Components {
		found, err := c.availableIn(folder, container)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			if !seen[one.Ref] {
				seen[one.Ref] = true
				all = append(all, one)
			}
		}
	}
	slices.SortFunc(all, func(a, b Available) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

func (c Catalog) availableIn(folder, container string) ([]Available, error) {
	containers, err := names(folder)
	if err != nil {
		return nil, err
	}
	var all []Available
	for _, one := range containers {
		if container != "" && one != container {
			continue
		}
		components, err := names(filepath.Join(folder, one))
		if err != nil {
			return nil, err
		}
		for _, name := range components {
			path, err := canonical(filepath.Join(folder, one, name))
			if err != nil {
				return nil, err
			}
			all = append(all, Available{Ref{one, name}, path, storedName(path, c.NixStore)})
		}
	}
	return all, nil
}

// component returns the path of a component by its name or path.
func (c Catalog) component(container, component string) (string, error) {
	if isPath(component) {
		return canonical(component)
	}
	if err := CheckName(component); err != nil {
		return "", fmt.Errorf("component: %w", err)
	}
	for _, folder := range c.Components {
		if path := filepath.Join(folder, filepath.Base(container), component); exists(path) {
			return canonical(path)
		}
	}
	return "", notFound("No component configuration found for: " + component)
}

// module returns the path of an executable, or a built-in module, by a type's name or path.
func (c Catalog) module(kind string) (path string, builtin Operator, err error) {
	missing := notFound("Module: " + kind + " cannot be found!")
	if isPath(kind) {
		info, err := os.Stat(kind)
		switch {
		case err != nil:
			return "", nil, missing
		case !info.IsDir():
			path, err := filepath.Abs(kind)
			return path, nil, err
		}
		found, err := filepath.Glob(filepath.Join(kind, "libexec", "dysnomia", "*"))
		if err != nil || len(found) != 1 {
			return "", nil, missing
		}
		path, err := filepath.Abs(found[0])
		return path, nil, err
	}
	if err := CheckName(kind); err != nil {
		return "", nil, fmt.Errorf("module: %w", err)
	}
	for _, folder := range c.Modules {
		path := filepath.Join(folder, kind)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil, nil
		}
	}
	if builtin, ok := c.Builtin[kind]; ok {
		return "", builtin, nil
	}
	return "", nil, missing
}

// ComponentName is what the state of a component, given by name or path, is called.
func (c Catalog) ComponentName(component string) string { return storedName(component, c.NixStore) }
