package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/wayland"
	"orrery/clip/x11"
	"orrery/internal/commandline"
)

func (c *cli) pasteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "paste",
		Short: "Press the keys by which the program that has the focus pastes",
		Long: `Press the keys by which the program that has the focus pastes what is in the clipboard: ctrl+v, or what terminals and a few others have in its place. It goes by XTEST on
X11 and by virtual-keyboard-unstable-v1 on Wayland, which GNOME and KDE do not have. After a menu:

    clip list | rofi -dmenu | clip copy && clip paste`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			finish, err := c.recorder().Paste(cmd.Context(), false)
			if err != nil {
				return err
			}
			_, err = finish(cmd.Context())
			return err
		},
	}
}

// keyboard opens the keyboard of the display that is watched.
func (c *cli) keyboard() (clip.Keyboard, error) {
	if c.display == displayWayland || c.display == displayAuto && os.Getenv("WAYLAND_DISPLAY") != "" {
		return wayland.OpenKeyboard("")
	}
	if os.Getenv("DISPLAY") == "" {
		return nil, fmt.Errorf("nothing can be typed: %w: there is no display", clip.ErrUnsupported)
	}
	return x11.OpenKeyboard("")
}

// examinePasting says for clip doctor whether the picker can paste. That it cannot is bad only if it is to.
func (c *cli) examinePasting(wanted bool) (string, error) {
	k, err := c.keyboard()
	if err == nil {
		err = k.Close()
	}
	switch {
	case wanted:
		return "the picker pastes", err
	case err != nil:
		return "off, and not possible here: " + err.Error(), nil //nolint:nilerr // it is not wanted
	}
	return "off, and possible (paste = true in the settings, or clip pick --paste)", nil
}
