/// All commands, in the order in which the help lists them.
enum CommandTable {
    static let all: [CommandSpec] =
        [ServeCommand.spec] + MigrateCommands.all + SchemaCommands.all + BackupCommands.all + [
            RecoverCommand.spec, DoctorCommand.spec,
        ]
        + TaskCommands.all + SQLCommands.all
        + AuditCommands.all
        + DatabaseCommands.all + ConfigCommands.all
}
