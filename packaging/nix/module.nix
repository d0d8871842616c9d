# A NixOS module: services.pamCargoTarget.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.pamCargoTarget;
in
{
  options.services.pamCargoTarget = {
    enable = lib.mkEnableOption "a private CARGO_TARGET_DIR for every developer of this machine";

    package = lib.mkOption {
      type = lib.types.package;
      description = "The package, made by package.nix.";
    };

    root = lib.mkOption {
      type = lib.types.path;
      default = "/srv/cargo-target";
      description = "The shared root; made as root's, mode 0755.";
    };

    settings = lib.mkOption {
      type = with lib.types; attrsOf (oneOf [ str int (listOf str) ]);
      default = { };
      example = { group = "developers"; };
      description = "Other keys of cargo-target.conf(5); one with several values, such as export, as a list.";
    };

    pamServices = lib.mkOption {
      type = with lib.types; listOf str;
      default = [ "login" "sshd" "su" "sudo" "cron" "systemd-user" ];
      description = "The PAM services whose sessions get the module's line.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    environment.etc."security/cargo-target.conf" = {
      mode = "0644";
      text = lib.generators.toKeyValue { listsAsDuplicateKeys = true; } ({ root = toString cfg.root; } // cfg.settings);
    };

    systemd.tmpfiles.rules = [ "d ${toString cfg.root} 0755 root root -" ];

    security.pam.services = lib.genAttrs cfg.pamServices (_: {
      rules.session.cargo_target = {
        control = "optional";
        modulePath = "${cfg.package}/lib/security/pam_cargo_target.so";
        # The last.
        order = 99999;
      };
    });
  };
}
