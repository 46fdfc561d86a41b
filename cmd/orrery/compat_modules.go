package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"orrery/internal/command"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/dysnomia"
	my "orrery/state/module/mysql"
	pg "orrery/state/module/postgresql"
	"orrery/state/module/subversion"
)

// compatModules are the built-in modules under the names that Dysnomia's have.
func compatModules() map[string]dysnomia.Operator {
	all := map[string]dysnomia.Operator{
		"echo": dysnomia.Echo, "wrapper": dysnomia.Wrapper, "process": dysnomia.Process, "fileset": dysnomia.Fileset,
		"generic-webapplication": dysnomia.WebApplication, "apache-webapplication": dysnomia.WebApplication, "nginx-webapplication": dysnomia.WebApplication,
		"systemd-unit": dysnomia.Systemd, "supervisord-program": dysnomia.Supervisord, "xinetd-service": dysnomia.Xinetd, "sysvinit-script": dysnomia.Sysvinit,
		"tomcat-webapplication": dysnomia.Tomcat, "docker-container": dysnomia.Docker, "influx-database": dysnomia.Influx,
	}
	for kind, d := range compatDatabases() {
		d.Kind, d.As = kind, driveAs
		all[kind] = d.Operate
	}
	return all
}

// compatDatabases are the modules of databases, with what their properties are called in Dysnomia.
func compatDatabases() map[string]dysnomia.Database {
	return map[string]dysnomia.Database{
		"postgresql-database": {
			Module: pg.New(pg.Config{}), Schema: "postgresql-databases", Dump: "dump.pgsql.xz", Own: "-- Orrery PostgreSQL dump",
			Container: func(c dysnomia.Call) (state.Properties, string) {
				p := state.Properties{"host": c.Property("postgresqlRuntimeDir", "/var/run/postgresql"), "user": c.Property("postgresqlUsername", "postgres")}
				if port, err := strconv.Atoi(c.Property("postgresqlPort", "5432")); err == nil {
					p["port"] = port
				}
				return p, c.Property("postgresqlPassword", "")
			},
			Component: databaseProperties,
			Account:   func(c dysnomia.Call) string { return c.Property("postgresqlUsername", "postgres") },
		},
		"mysql-database": {
			Module: my.New(my.Config{}), Schema: "mysql-databases", Dump: "dump.sql.xz", Own: "-- Orrery MySQL dump",
			Closing: "SET SQL_NOTES=@OLD_SQL_NOTES */;", End: "\n-- Dump completed\n",
			Container: func(c dysnomia.Call) (state.Properties, string) {
				p := state.Properties{"user": c.Property("mysqlUsername", "root")}
				if socket := c.Property("mysqlSocket", ""); socket != "" {
					p["socket"] = socket
				}
				return p, c.Property("mysqlPassword", "")
			},
			Component: databaseProperties,
		},
		"subversion-repository": {
			Module: subversion.New(nil), Schema: "subversion-repositories", Files: "*", Dump: "dump.xz", Own: "Orrery Subversion snapshot",
			Plain: true, Stays: true, Adapt: dysnomia.SubversionDump, Base: func(c dysnomia.Call) string { return c.Property("svnBaseDir", "") },
			Container: func(c dysnomia.Call) (state.Properties, string) {
				return state.Properties{"base": c.Property("svnBaseDir", "")}, ""
			},
			Component: repositoryProperties,
		},
	}
}

func repositoryProperties(c dysnomia.Call, history string) state.Properties {
	p := state.Properties{"path": filepath.Join(c.Property("svnBaseDir", ""), c.Ref.Component)}
	for name, value := range map[string]string{"dump": history, "group": c.Property("svnGroup", "")} {
		if value != "" {
			p[name] = value
		}
	}
	return p
}

func databaseProperties(c dysnomia.Call, schema string) state.Properties {
	p := state.Properties{"database": c.Ref.Component}
	if schema != "" {
		p["schema"] = schema
	}
	return p
}

// driveAs carries out an operation of a module as an account of this machine, whom a server on it knows by that. Only
// root can be somebody else.
func driveAs(ctx context.Context, account string, d dysnomia.Drive, in io.Reader, out io.Writer) error {
	found, err := user.Lookup(account)
	if account == "" || os.Geteuid() != 0 || err != nil || found.Uid == "0" {
		return d.Carry(ctx, compatDatabases()[d.Module].Module, in, out)
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return err
	}
	if err := give(d.Target.Directory, uid, gid); err != nil {
		return err
	}
	content, err := json.Marshal(d)
	if err != nil {
		return err
	}
	what := filepath.Join(d.Target.Directory, "drive.json")
	if err := errors.Join(os.WriteFile(what, content, 0o600), os.Chown(what, uid, gid)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = command.Program{
		Path: self, Args: []string{"compat", "drive", what}, In: in, Out: out,
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Secrets: []string{d.Secret}, //nolint:gosec // ids of accounts are 32 bits
	}.Run(ctx)
	if err != nil {
		return fmt.Errorf("as %s: %w", account, err)
	}
	return nil
}

// give makes a folder and its files somebody's.
func give(folder string, uid, gid int) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Lchown(filepath.Join(folder, e.Name()), uid, gid); err != nil {
			return err
		}
	}
	return os.Lchown(folder, uid, gid)
}

// compatDrive is the other side of driveAs.
func (c *cli) compatDrive() *cobra.Command {
	return &cobra.Command{
		Use: "drive FILE", Hidden: true, Args: commandline.Exactly("FILE"),
		Short: "Carry out an operation of a module that Orrery was called for as root",
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var d dysnomia.Drive
			if err := json.Unmarshal(content, &d); err != nil {
				return err
			}
			known, ok := compatDatabases()[d.Module]
			if !ok {
				return fmt.Errorf("module %q: %w", d.Module, state.ErrNotFound)
			}
			return d.Carry(cmd.Context(), known.Module, c.stdin, c.stdout)
		},
	}
}
