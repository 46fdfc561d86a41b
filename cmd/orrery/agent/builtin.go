package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"

	"orrery/state"
	"orrery/state/account"
	"orrery/state/module/docker"
	"orrery/state/module/ejabberd"
	"orrery/state/module/etcd"
	"orrery/state/module/fileset"
	"orrery/state/module/git"
	"orrery/state/module/influxdb"
	"orrery/state/module/ldap"
	"orrery/state/module/manager"
	"orrery/state/module/mongodb"
	"orrery/state/module/mysql"
	"orrery/state/module/nixos"
	"orrery/state/module/postgresql"
	"orrery/state/module/process"
	"orrery/state/module/redis"
	"orrery/state/module/sqlite"
	"orrery/state/module/subversion"
	"orrery/state/module/trivial"
	"orrery/state/module/webapp"
	"orrery/state/module/wrapper"
)

// builtin are the program's own modules: what a machine has, module list prints and the pages in docs/modules are made from.
// A new one is a line here. They start nothing before they are asked to.
func builtin(processes state.Module, accounts *account.Manager, log *slog.Logger) []state.Module {
	return slices.Concat(
		only(processes),
		only(docker.Module{}),
		only(ejabberd.New()),
		only(etcd.New()),
		only(fileset.New(log)),
		only(git.New()),
		only(influxdb.New()),
		only(ldap.New()),
		manager.New(manager.Config{Logger: log, Accounts: accounts}),
		only(mongodb.New()),
		only(mysql.New(mysql.Config{Logger: log})),
		only(nixos.Module{}),
		only(postgresql.New(postgresql.Config{Logger: log})),
		only(redis.New()),
		only(sqlite.New(log)),
		only(subversion.New(log)),
		only(trivial.NewEcho(log)),
		only(trivial.Noop{}),
		webapp.New(log),
		only(wrapper.New()),
	)
}

func only(m state.Module) []state.Module { return []state.Module{m} }

// assemble makes the modules: the program's own, and those that others wrote.
func assemble(ctx context.Context, dir string, log *slog.Logger, supervise []string) *local {
	accounts := account.New(account.Config{Directory: filepath.Join(dir, "accounts"), Logger: log})
	l := &local{processes: process.New(process.Config{Logger: log, Accounts: accounts})}
	if supervise != nil {
		l.processes = process.NewDetached(process.Config{Logger: log, Accounts: accounts}, supervise)
	}
	l.modules = builtin(l.processes, accounts, log)
	l.modules = append(l.modules, externalModules(ctx, dir, l.describe(), log)...)
	return l
}
