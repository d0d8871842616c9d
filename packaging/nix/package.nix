# The package, from the tarball of `make dist`: src = ./pam_cargo_target-0.1.0.tar.gz;
{ lib, rustPlatform, pam, src }:

rustPlatform.buildRustPackage {
  pname = "pam_cargo_target";
  version = "0.1.0";
  inherit src;

  # The tarball has the crates, and the configuration that makes cargo use them.
  cargoVendorDir = "vendor";
  buildInputs = [ pam ];

  buildPhase = ''
    runHook preBuild
    make build
    runHook postBuild
  '';

  checkPhase = ''
    runHook preCheck
    cargo test --locked --lib
    runHook postCheck
  '';

  # The configuration is the NixOS module's to write.
  installPhase = ''
    runHook preInstall
    make install PREFIX=$out DESTDIR= PAM_MODULE_DIR=$out/lib/security CONF=$out/share/doc/pam_cargo_target/cargo-target.conf
    runHook postInstall
  '';

  meta = {
    description = "PAM module that gives every developer of a shared machine a private CARGO_TARGET_DIR";
    license = with lib.licenses; [ mit asl20 ];
    platforms = lib.platforms.linux;
    mainProgram = "cargo-targetctl";
  };
}
