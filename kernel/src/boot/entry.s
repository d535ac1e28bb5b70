# From the loader's 32-bit protected mode to `boot_main` in long mode.
#
# In:  ebx = physical address of hvm_start_info, paging off, flat segments.
# Out: rdi = the same; the first 4 GiB mapped with 2 MiB pages, at 0 and at the direct map's place;
#      SSE on; the boot stack.

    .section .note.Xen, "a", @note
    .align 4
    .long 4                         # length of the name
    .long 4                         # length of the value
    .long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

    .section .boot, "ax", @progbits
    .code32
    .global pvh_entry
pvh_entry:
    cld
    # PML4[0] and PML4[256] -> the same PDPT -> four page directories.
    mov eax, offset boot_pdpt + 3
    mov [boot_pml4], eax
    mov [boot_pml4 + 256 * 8], eax
    mov eax, offset boot_pd + 3
    mov ecx, 4
    mov edi, offset boot_pdpt
1:  mov [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 1b
    # 2048 entries: present, writable, 2 MiB.
    mov eax, 0x83
    mov ecx, 2048
    mov edi, offset boot_pd
2:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b

    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, 0x6a0                   # PAE, PGE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov ecx, 0xc0000080             # EFER: long mode, no-execute
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb             # not EM
    or eax, 0x80010023              # paging, write protect, numeric error, monitor coprocessor, protection
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    ljmp 0x08, offset long_mode

    .code64
long_mode:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    fninit
    lea rsp, boot_stack_top[rip]
    xor ebp, ebp
    mov edi, ebx
    call boot_main
    ud2

    .align 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt

    .section .bss.boot, "aw", @nobits
    .align 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .global boot_stack_guard
boot_stack_guard:                   # unmapped once the kernel's own page tables are in place
    .skip 4096
    .skip 262144
    .global boot_stack_top
boot_stack_top:
