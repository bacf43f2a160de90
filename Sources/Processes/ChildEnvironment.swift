import Foundation

/// What a child gets of this process's environment: what a program needs to run at all, and what is asked for by name.
///
/// Whoever started this process may have put secrets into its environment. A child can show its environment to others
/// (a superuser's `COPY … FROM PROGRAM 'env'` does), so nothing comes to it that was not thought of. Pure.
public enum ChildEnvironment {
    /// Where programs are looked for when the parent's PATH names no place.
    public static let usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// What every child gets, if the parent has it.
    static let fixedNames = ["HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"]

    /// - Parameters:
    ///   - parent: where it is taken from.
    ///   - names: further variables that this child gets, if the parent has them.
    public static func fixed(
        of parent: [String: String] = ProcessInfo.processInfo.environment, with names: [String] = []
    ) -> [String: String] {
        var environment = parent.filter { names.contains($0.key) || fixedNames.contains($0.key) }
        environment["PATH"] = folders(of: parent["PATH"]).joined(separator: ":")
        // Children start elsewhere, where a relative path means another place.
        for name in ["HOME", "TMPDIR"] where environment[name]?.hasPrefix("/") == false { environment[name] = nil }
        return environment
    }

    /// The folders of a PATH that mean the same wherever one is; never the current folder, which an empty entry is too.
    public static func folders(of path: String?) -> [String] {
        let folders = (path ?? "").split(separator: ":").map(String.init).filter { $0.utf8.first == UInt8(ascii: "/") }
        return folders.isEmpty ? usualPath.split(separator: ":").map(String.init) : folders
    }

    /// The path of a program: as it is given where it has a slash, else in the first of the folders that has it.
    ///
    /// - Returns: nil where no folder has it.
    static func locate(_ program: String, in folders: [String]) -> String? {
        if program.utf8.contains(UInt8(ascii: "/")) { return program }
        return folders.lazy.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 && !isFolder($0) }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
