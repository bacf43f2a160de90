import Foundation
import Processes

/// The folder of PostgreSQL's server programs of one major version.
public struct ServerPrograms: Sendable, Equatable {
    public let folder: String
    public let majorVersion: Int

    /// The path of a program, for instance `initdb`.
    public func path(_ program: String) -> String { "\(folder)/\(program)" }

    /// Returns whether a module for `shared_preload_libraries` is installed. Checks the folders in which packages
    /// install modules.
    func hasModule(_ name: String) -> Bool {
        let folders = ["\(folder)/../lib", "\(folder)/../lib/postgresql"]
        return folders.contains { FileManager.default.fileExists(atPath: "\($0)/\(name).so") }
    }

    /// Returns all installed server programs, newest version first.
    ///
    /// - Parameter folders: the folders to search; nil: `pg_config --bindir`, the folders of Debian's, Red Hat's and
    ///   Homebrew's packages, and `PATH`.
    public static func installed(in folders: [String]? = nil) async -> [ServerPrograms] {
        let folders = if let folders { folders } else { await usualFolders() }
        var found: [ServerPrograms] = []
        for folder in folders {
            let real = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path
            guard isComplete(real), !found.contains(where: { $0.folder == real }) else { continue }
            if let version = await version(in: real) {
                found.append(ServerPrograms(folder: real, majorVersion: version))
            }
        }
        return found.sorted { $0.majorVersion > $1.majorVersion }
    }

    private static func usualFolders() async -> [String] {
        var folders: [String] = []
        if let outcome = try? await Command("pg_config", ["--bindir"]).run(limit: .seconds(5)), outcome.succeeded {
            folders.append(outcome.output.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        folders += ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"].flatMap(children)
        return folders + ChildEnvironment.folders(of: ProcessInfo.processInfo.environment["PATH"])
    }

    private static func children(_ folder: String) -> [String] {
        let parent = (folder as NSString).deletingLastPathComponent
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let siblings =
            folder == "/usr/pgsql" ? (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [] : []
        return names.map { "\(folder)/\($0)/bin" }
            + siblings.filter { $0.hasPrefix("pgsql-") }.map { "\(parent)/\($0)/bin" }
    }

    private static func isComplete(_ folder: String) -> Bool {
        ["initdb", "postgres", "pg_ctl"].allSatisfy { FileManager.default.isExecutableFile(atPath: "\(folder)/\($0)") }
    }

    private static func version(in folder: String) async -> Int? {
        // The output is, for instance, `postgres (PostgreSQL) 15.18 (Debian …)`.
        let outcome = try? await Command("\(folder)/postgres", ["--version"]).run(limit: .seconds(5))
        return outcome?.output.firstMatch(of: /PostgreSQL\) (\d+)/).flatMap { Int($0.1) }
    }
}
