//! What is done to an object after linking: debug information goes, type information stays.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::SHT_STRTAB;

/// Sections that the loader reads: the types, and which source line an instruction came from.
const TYPE_INFORMATION: [&[u8]; 2] = [b".BTF", b".BTF.ext"];

/// Removes DWARF, which holds the paths of the machine that compiled and which no loader reads.
/// Fails when the object has no type information, without which the kernel refuses the programs.
pub fn without_debug_information(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(object).context("the linker wrote no readable ELF object")?;
    for name in TYPE_INFORMATION {
        ensure!(
            elf.sections.iter().any(|section| &section.name[..] == name),
            "the object has no section {}: was it linked with --btf?",
            String::from_utf8_lossy(name)
        );
    }
    let debug: Vec<_> = elf
        .sections
        .iter()
        .filter(|section| section.name.starts_with(b".debug_"))
        .map(|section| section.id())
        .collect();
    for section in &mut elf.sections {
        let about_debug = section
            .sh_info_section
            .is_some_and(|about| debug.contains(&about));
        let relocates = matches!(section.data, SectionData::Relocation(_));
        section.delete = debug.contains(&section.id()) || (relocates && about_debug);
    }
    elf.delete_orphans();
    let has_names = |section: &Section<'_>| matches!(section.data, SectionData::SectionString);
    if !elf.sections.iter().any(has_names) {
        // LLVM keeps the names of sections among those of symbols, which cannot be written back.
        add_section_names(&mut elf);
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped)
        .context("cannot write the stripped object")?;
    Ok(stripped)
}

fn add_section_names(elf: &mut Builder<'_>) {
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

/// The absolute paths that are found in an object: none should be, because they would tell where
/// it was built, and change from one machine to the next.
///
/// A path begins with a slash that does not continue a name, and has at least two components: a
/// single one is too likely to be an instruction.
pub fn absolute_paths(object: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut position = 0;
    while position < object.len() {
        let length = object[position..]
            .iter()
            .take_while(|&&byte| is_of_path(byte))
            .count();
        let word = &object[position..position + length];
        if is_absolute(word) {
            paths.push(String::from_utf8_lossy(word).into_owned());
        }
        position += length + 1;
    }
    paths
}

/// `/name/` and something after it.
fn is_absolute(word: &[u8]) -> bool {
    let mut components = word.split(|&byte| byte == b'/');
    let begins_with_slash = components.next() == Some(b"");
    let names = components.take(2).filter(|name| !name.is_empty()).count();
    begins_with_slash && names == 2
}

fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_path_is_found_between_other_bytes() {
        let object = b"\x00\x2f\x12core/src/lib.rs\0/home/someone/tcpleak/src/main.rs\0\xb7";
        assert_eq!(
            absolute_paths(object),
            ["/home/someone/tcpleak/src/main.rs"]
        );
    }

    #[test]
    fn an_absolute_path_is_found_after_a_quote_or_an_equals_sign() {
        assert_eq!(absolute_paths(b"dir=/usr/lib"), ["/usr/lib"]);
        assert_eq!(absolute_paths(b"at \"/usr/lib\""), ["/usr/lib"]);
    }

    #[test]
    fn an_absolute_path_is_found_at_the_very_end() {
        assert_eq!(absolute_paths(b"\0/usr/lib"), ["/usr/lib"]);
    }

    #[test]
    fn section_names_and_relative_paths_are_no_absolute_paths() {
        for text in [
            "tp_btf/tcp_destroy_sock",
            "../core/src/lib.rs",
            "// a / b",
            "/",
            "/a",
            "//",
        ] {
            assert_eq!(absolute_paths(text.as_bytes()), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn debug_sections_go_and_everything_else_keeps_its_bytes() {
        let kept: [(&[u8], &[u8]); 3] = [
            (b"license", b"GPL\0"),
            (b".BTF", b"types"),
            (b".BTF.ext", b"lines"),
        ];
        let object = elf_with(&[
            kept[0],
            (b".debug_str", b"/home/someone/src"),
            kept[1],
            kept[2],
        ]);

        let stripped = without_debug_information(&object).unwrap();

        assert_eq!(absolute_paths(&stripped), [] as [&str; 0]);
        let elf = Builder::read(&stripped[..]).unwrap();
        for (name, bytes) in kept {
            let section = elf
                .sections
                .iter()
                .find(|section| &section.name[..] == name)
                .unwrap();
            let SectionData::Data(data) = &section.data else {
                panic!("{section:?} is not data")
            };
            assert_eq!(&data[..], bytes);
        }
        assert!(
            elf.sections
                .iter()
                .all(|section| &section.name[..] != b".debug_str")
        );
    }

    #[test]
    fn an_object_without_type_information_is_refused() {
        let error = without_debug_information(&elf_with(&[(b"license", b"GPL\0")])).unwrap_err();
        assert!(error.to_string().contains(".BTF"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_object_is_refused() {
        assert!(without_debug_information(b"not an object").is_err());
    }

    fn elf_with(sections: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut elf = Builder::new(object::Endianness::Little, true);
        elf.header.e_type = object::elf::ET_REL;
        elf.header.e_machine = object::elf::EM_BPF;
        for (name, bytes) in sections {
            let section = elf.sections.add();
            section.name = name.to_vec().into();
            section.sh_type = object::elf::SHT_PROGBITS;
            section.sh_addralign = 1;
            section.data = SectionData::Data(bytes.to_vec().into());
        }
        add_section_names(&mut elf);
        let mut object = Vec::new();
        elf.write(&mut object).unwrap();
        object
    }
}
