import Foundation
import ReeveApp

let status = await ReeveProgram.main(
    arguments: Array(CommandLine.arguments.dropFirst()), environment: ProcessInfo.processInfo.environment)
exit(status)
