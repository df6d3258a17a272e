# Two Debian packages: the agent for nodes, the fleet's side for one machine. packaging/deb builds them.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME selfright)
set(CPACK_PACKAGE_CONTACT "Selfright maintainers <maintainers@selfright.invalid>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/deb)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL agent controller)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
	WORLD_READ WORLD_EXECUTE)

# The users come from sysusers.d, with or without systemd as init. cURL trusts the system's CAs where no other is named;
# windows are read in the zone of the node.
set(CPACK_DEBIAN_AGENT_PACKAGE_NAME selfright-agent)
set(CPACK_DEBIAN_AGENT_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers, ca-certificates, tzdata")
set(CPACK_DEBIAN_AGENT_DESCRIPTION "signed updates for appliances that right themselves: the agent
It subscribes over MQTT for signed release manifests, stages and atomically swaps
packages, runs health checks, and goes back by itself if they fail.")
set(CPACK_DEBIAN_AGENT_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/debian/agent/postinst
	${PROJECT_SOURCE_DIR}/packaging/debian/agent/prerm ${PROJECT_SOURCE_DIR}/packaging/debian/agent/postrm)

# `selfright serve` starts and supervises a mosquitto of its own.
set(CPACK_DEBIAN_CONTROLLER_PACKAGE_NAME selfright)
set(CPACK_DEBIAN_CONTROLLER_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers, mosquitto")
set(CPACK_DEBIAN_CONTROLLER_DESCRIPTION "signed updates for appliances that right themselves: the fleet's side
Repository, signer and controller: releases are published and rolled out in
stages, each proved before the next.")
set(CPACK_DEBIAN_CONTROLLER_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/debian/controller/postinst
	${PROJECT_SOURCE_DIR}/packaging/debian/controller/prerm ${PROJECT_SOURCE_DIR}/packaging/debian/controller/postrm)
include(CPack)
