package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"orrery/state"
	"orrery/state/module/external"
)

// The environment variables that say where the modules are that others wrote, and whom they run as.
const (
	ModulesPathVariable = "ORRERY_MODULES_PATH"
	modulesUserVariable = "ORRERY_MODULES_USER"
)

// externalModules are the executables in the folder modules of dir, and on the search paths of Orrery and Dysnomia.
func externalModules(ctx context.Context, dir string, builtin []state.Description, log *slog.Logger) []state.Module {
	folders := []string{filepath.Join(dir, "modules")}
	for _, variable := range []string{ModulesPathVariable, "DYSNOMIA_MODULES_PATH"} {
		folders = append(folders, filepath.SplitList(os.Getenv(variable))...)
	}
	taken := make([]string, len(builtin))
	for i, d := range builtin {
		taken[i] = d.Name
	}
	return external.Load(ctx, folders, taken, external.Config{User: os.Getenv(modulesUserVariable), Logger: log})
}
