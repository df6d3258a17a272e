# program(NAME SOURCE libraries...)
function(program name source)
	if(NOT EXISTS ${PROJECT_SOURCE_DIR}/${source})
		return()
	endif()
	add_executable(${name} ${source})
	target_link_libraries(${name} PRIVATE ${ARGN})
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

program(selfright-agent agent/main_agent.c sr_agent)
program(selfright-link agent/main_link.c sr_link sr_local)
program(selfright-stage agent/main_stage.c sr_fetch sr_pack sr_tree)
program(selfright-log agent/main_log.c)
program(selfright-probe agent/main_probe.c sr_fetch sr_os)
program(selfright-recover agent/main_recover.c sr_store)
target_compile_definitions(selfright-recover PRIVATE SELFRIGHT_BINDIR="${CMAKE_INSTALL_FULL_BINDIR}")
program(selfright server-stub/main_selfright.c sr_cli)
program(selfright-signer server-stub/main_signer.c sr_signer)
program(selfright-gate server-stub/main_gate.c sr_rollout sr_fetch sr_os)
program(selfright-notify server-stub/main_notify.c sr_rollout sr_fetch sr_os)
# They are started by the other.
add_dependencies(selfright selfright-gate selfright-notify)

# install_programs(COMPONENT DESTINATION names...); the components are the packages of deb.cmake.
function(install_programs component destination)
	foreach(name ${ARGN})
		if(TARGET ${name})
			install(TARGETS ${name} RUNTIME DESTINATION ${destination} COMPONENT ${component})
		endif()
	endforeach()
endfunction()

install_programs(agent ${CMAKE_INSTALL_BINDIR} selfright-agent)
install_programs(agent ${CMAKE_INSTALL_LIBEXECDIR}/selfright selfright-link selfright-log selfright-stage
	selfright-probe selfright-recover)
install_programs(controller ${CMAKE_INSTALL_BINDIR} selfright)
install_programs(controller ${CMAKE_INSTALL_LIBEXECDIR}/selfright selfright-signer selfright-gate selfright-notify)

# selfright-results(7) is printed from the tables of common/model, by a program that must run here.
if(TARGET sr_model AND NOT CMAKE_CROSSCOMPILING)
	add_executable(gen_results packaging/man/gen_results.c)
	target_link_libraries(gen_results PRIVATE sr_model)
	add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/selfright-results.7
		COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/man
		COMMAND gen_results > ${PROJECT_BINARY_DIR}/man/selfright-results.7
		DEPENDS gen_results VERBATIM)
	add_custom_target(man_results ALL DEPENDS ${PROJECT_BINARY_DIR}/man/selfright-results.7)
	install(FILES ${PROJECT_BINARY_DIR}/man/selfright-results.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7
		COMPONENT agent)
endif()

# install_pages(COMPONENT pages...)
function(install_pages component)
	foreach(page ${ARGN})
		string(REGEX MATCH "[0-9]$" section ${page})
		install(FILES ${PROJECT_SOURCE_DIR}/packaging/man/${page}
			DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
	endforeach()
endfunction()

install_pages(agent selfright-agent.yaml.5 selfright-agent.8 selfright-link.8 selfright-log.8 selfright-probe.8
	selfright-recover.8 selfright-stage.8)
install_pages(controller selfright.1 selfright-component.yaml.5 selfright-plan.yaml.5 selfright-preflight.yaml.5
	selfright-notify.yaml.5 selfright-signer.8 selfright-gate.8 selfright-notify.8)

# Where systemd looks for units and users of packages is the same on every architecture.
foreach(unit selfright selfright-agent selfright-recover selfright-signer)
	configure_file(${PROJECT_SOURCE_DIR}/packaging/systemd/${unit}.service.in
		${PROJECT_BINARY_DIR}/systemd/${unit}.service @ONLY)
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/systemd/selfright-agent.service ${PROJECT_BINARY_DIR}/systemd/selfright-recover.service
	DESTINATION lib/systemd/system COMPONENT agent)
install(FILES ${PROJECT_BINARY_DIR}/systemd/selfright.service ${PROJECT_BINARY_DIR}/systemd/selfright-signer.service
	DESTINATION lib/systemd/system COMPONENT controller)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/sysusers/selfright-agent.conf DESTINATION lib/sysusers.d COMPONENT agent)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/sysusers/selfright.conf DESTINATION lib/sysusers.d COMPONENT controller)
install(FILES ${PROJECT_SOURCE_DIR}/packaging/tmpfiles/selfright.conf DESTINATION lib/tmpfiles.d COMPONENT controller)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/selfright-agent RENAME copyright
	COMPONENT agent)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/selfright RENAME copyright
	COMPONENT controller)
